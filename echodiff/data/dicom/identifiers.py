"""List the identifying tags of a DICOM file, by name and never by value.

Only pixels and the few tags of `KEPT` are written to a frames folder. A tag is identifying if the
Basic Application Level Confidentiality Profile of DICOM PS3.15 (Table E.1-1, edition 2024b, 620
attributes) removes or replaces it. The table is expressed as rules where a rule covers all its
attributes of a kind and adds only attributes that are identifying or may be:

- by VR: names of persons, dates, times, network addresses, and free text of a paragraph or more;
- unique identifiers, except those under DICOM's own root, which name a class, not an instance;
- by group: the patient, the trial, the visit, requests, results, signatures, radiotherapy, curves,
  and every private group;
- by name: all others.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

KEPT = {
    "Modality": "modality",
    "Manufacturer": "vendor",
    "PhysicalDeltaX": "spacing_mm",
    "PhysicalDeltaY": "spacing_mm",
    "PixelSpacing": "spacing_mm",
    "FrameTime": "frame_time_ms, time_ms",
    "FrameTimeVector": "frame_time_ms, time_ms",
    "TriggerTime": "frame_time_ms, time_ms",
    "NominalCardiacTriggerDelayTime": "frame_time_ms, time_ms",
}
"""Tags whose values reach a frames folder, and the columns they reach."""
CHARACTERISTICS = {
    "PatientSex": "sex",
    "PatientAge": "age_years",
    "PatientSize": "height_cm",
    "PatientWeight": "weight_kg",
}
"""Tags that PS3.15 lets stay under its Retain Patient Characteristics Option."""
PRIVATE = "private"
"""Stands for all tags of private groups, which have no keywords."""
PROFILE = "DICOM PS3.15 Basic Application Level Confidentiality Profile"

_VRS = frozenset({"PN", "DA", "DT", "TM", "AE", "LT", "ST", "UT"})
_DICOM_ROOT = "1.2.840.10008."
_GROUPS = frozenset({0x0010, 0x0012, 0x0032, 0x0034, 0x0038, 0x0400, 0x4008}).union(
    range(0x3000, 0x3100),  # radiotherapy
    range(0x5000, 0x5100),  # curves
)
_DEIDENTIFICATION = frozenset(
    {
        "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    }
)  # fmt: skip
"""Stand in group 0012, and say only what was done to the file."""
_STEMS = ("GPS", "Selector", "Overlay")
"""Of groups 0016, 0072 and 60xx; an overlay is drawn over the image and may show a name."""
_LISTED = """
AccessionNumber AdmittingDiagnosesCodeSequence AdmittingDiagnosesDescription
ConsultingPhysicianIdentificationSequence InstitutionCodeSequence InstitutionName
InstitutionalDepartmentName InstitutionalDepartmentTypeCodeSequence
OperatorIdentificationSequence PerformingPhysicianIdentificationSequence
PhysiciansOfRecordIdentificationSequence PhysiciansReadingStudyIdentificationSequence
PyramidDescription ReferencedImageSequence ReferencedPatientSequence
ReferencedPerformedProcedureStepSequence ReferencedStudySequence
ReferringPhysicianIdentificationSequence ReferringPhysicianTelephoneNumbers SeriesDescription
SourceImageSequence StationName StudyDescription TimezoneOffsetFromUTC

DeviceSettingDescription LensSpecification MakerNote

AcquisitionDeviceProcessingDescription AcquisitionFieldOfViewLabel CassetteID ContrastBolusAgent
DetectorID DeviceSerialNumber GantryID GeneratorID PlateID ProtocolName
RequestedSeriesDescription TransducerIdentificationSequence UDISequence XRayDetectorID
XRaySourceID

ModifiedImageDescription ModifyingDeviceID PyramidLabel StudyID

AcquisitionContextSequence ActualHumanPerformersSequence AuthorObserverSequence
ConfidentialityConstraintOnPatientDataDescription ContainerDescription ContainerIdentifier
ContentSequence CustodialOrganizationSequence FillerOrderNumberImagingServiceRequest
HumanPerformerOrganization IntendedRecipientsOfResultsIdentificationSequence
IssuerOfTheContainerIdentifierSequence IssuerOfTheSpecimenIdentifierSequence
OrderCallbackPhoneNumber OrderEntererLocation ParticipantSequence PatientTransportArrangements
PerformedLocation PerformedProcedureStepDescription PerformedProcedureStepID
PerformedStationGeographicLocationCodeSequence PerformedStationName
PerformedStationNameCodeSequence PersonIdentificationCodeSequence PersonTelephoneNumbers
PlacerOrderNumberImagingServiceRequest PreMedication ReasonForRequestedProcedureCodeSequence
ReasonForTheImagingServiceRequest ReasonForTheRequestedProcedure RequestAttributesSequence
RequestedProcedureID RequestedProcedureLocation ScheduledHumanPerformersSequence
ScheduledPerformingPhysicianIdentificationSequence ScheduledProcedureStepDescription
ScheduledProcedureStepID ScheduledProcedureStepLocation
ScheduledStationGeographicLocationCodeSequence ScheduledStationName
ScheduledStationNameCodeSequence SlideIdentifier SpecimenAccessionNumber SpecimenIdentifier
SpecimenPreparationSequence SpecimenShortDescription TelephoneNumberTrial
VerbalSourceIdentifierCodeSequenceTrial VerifyingObserverIdentificationCodeSequence
VerifyingObserverSequence VerifyingOrganization

AnnotationGroupLabel ContainerComponentID ContentCreatorIdentificationCodeSequence
DataSetTrailingPadding DeviceDescription DigitalSignaturesSequence EncapsulatedDocument
GraphicAnnotationSequence IconImageSequence TextString TopicAuthor TopicKeywords TopicTitle
"""
_NAMES = frozenset(_LISTED.split())


class Held(NamedTuple):
    """Identifying and kept tags that some cases have in common."""

    cases: tuple[str, ...]
    keywords: frozenset[str]


def list_tags(dataset: Any) -> frozenset[str]:
    """Return the keywords of non-empty tags that are identifying or in `KEPT`, also in sequences.

    `PRIVATE` stands for all private tags.
    """
    return frozenset(_search(dataset))


def is_identifying(tag: Any, vr: str, keyword: str, value: Any) -> bool:
    """Whether the Basic Profile would remove or replace a tag; `vr` is its two letters."""
    if tag.group % 2:
        return True
    if vr == "UI":
        values = [value] if isinstance(value, str) else value
        return not all(str(uid).startswith(_DICOM_ROOT) for uid in values)
    if keyword in _DEIDENTIFICATION:
        return False
    return vr in _VRS or tag.group in _GROUPS or keyword in _NAMES or keyword.startswith(_STEMS)


def build_report(held: Sequence[Held], *, has_characteristics: bool) -> dict[str, Any]:
    """Build the content of `identifiers.json`: tags removed and tags kept.

    Removed tags are counted by case, the most frequent first; cases with the same tags are listed
    together.
    """
    kept = KEPT | (CHARACTERISTICS if has_characteristics else {})
    counts: Counter[str] = Counter()
    for group in held:
        counts.update(dict.fromkeys(group.keywords, len(group.cases)))
    behind = sorted(counts.keys() - kept.keys(), key=lambda keyword: (-counts[keyword], keyword))
    return {
        "profile": PROFILE + (", Retain Patient Characteristics" if has_characteristics else ""),
        "kept": {keyword: column for keyword, column in kept.items() if keyword in counts},
        "left_behind": {keyword: counts[keyword] for keyword in behind},
        "by_cases": [
            {"cases": list(group.cases), "held": sorted(group.keywords - kept.keys())}
            for group in held
        ],
    }


def _search(dataset: Any) -> Iterator[str]:
    for element in dataset:
        if element.tag.group % 2:
            yield PRIVATE
            continue
        if element.tag.element == 0:  # length of a group
            continue
        is_sequence = element.VR == "SQ"
        is_empty = len(element.value) == 0 if is_sequence else element.is_empty
        if is_empty:
            continue
        if element.keyword in KEPT or is_identifying(
            element.tag, str(element.VR), element.keyword, element.value
        ):
            yield element.keyword or f"group {element.tag.group:04X}"
        if is_sequence:
            for item in element.value:
                yield from _search(item)
