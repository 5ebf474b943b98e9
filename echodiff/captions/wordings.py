"""Wordings of findings as clinicians write them; braces take grade and size."""

from collections.abc import Mapping

from echodiff.anatomy import Finding

_ASD = {
    "secundum": (
        "{size}secundum ASD{mm}",
        "{size}ASD, secundum, in the middle of the atrial septum{mm}",
        "{size}ostium secundum ASD{mm}",
        "{size}defect in the mid interatrial septum{mm}",
    ),
    "primum": (
        "{size}primum ASD{mm}",
        "{size}ASD, primum, without lower margin{mm}",
        "{size}ostium primum ASD{mm}",
    ),
    "sinus_venosus": (
        "{size}ASD, without upper margin{mm}",
        "{size}sinus venosus ASD{mm}",
        "{size}defect at the upper margin of the interatrial septum{mm}",
    ),
}
PARTIAL_AVSD = ("{size}primum ASD (partial AVSD){mm}", "{size}primum ASD{mm}, partial AVSD")
_VSD = {
    "muscular": (
        "{size}muscular VSD{mm}",
        "{size}VSD, muscular, in the middle of the ventricular septum{mm}",
        "{size}defect in the muscular ventricular septum{mm}",
    ),
    "inlet": (
        "{size}inlet VSD{mm}",
        "{size}VSD, inlet, below the valves{mm}",
        "{size}defect in the inlet of the ventricular septum{mm}",
    ),
    "perimembranous": (
        "{size}perimembranous VSD{mm}",
        "{size}VSD, perimembranous, below the aortic valve{mm}",
    ),
}
_THICKENED = {
    "mitral": ("mitral leaflets {adverb}thickened", "{adverb}thickened mitral valve"),
    "tricuspid": ("tricuspid leaflets {adverb}thickened", "{adverb}thickened tricuspid valve"),
    "both": (
        "mitral and tricuspid leaflets {adverb}thickened",
        "both atrioventricular valves {adverb}thickened",
    ),
}
BY_KIND: Mapping[Finding, Mapping[str, tuple[str, ...]]] = {
    Finding.ASD: _ASD,
    Finding.VSD: _VSD,
    Finding.THICKENED_VALVES: _THICKENED,
}
OTHERS = {
    Finding.LVH: (
        "{grade}LVH{walls}",
        "{grade}concentric left ventricular hypertrophy{walls}",
        "{grade}LVH, left ventricular walls thickened, cavity narrow",
        "{grade}hypertrophy of the left ventricle{walls}",
    ),
    Finding.SEPTAL_HYPERTROPHY: (
        "{grade}asymmetric septal hypertrophy{mm}",
        "{grade}asymmetric hypertrophy of the interventricular septum{mm}",
    ),
    Finding.RVH: (
        "{grade}right ventricular hypertrophy", "{grade}RVH, right ventricular wall thickened",
    ),
    Finding.HYPOPLASTIC_LV: (
        "{adverb}hypoplastic left ventricle", "{grade}hypoplasia of the left ventricle",
    ),
    Finding.HYPOPLASTIC_RV: (
        "{adverb}hypoplastic right ventricle", "{grade}hypoplasia of the right ventricle",
    ),
    Finding.COMMON_AV_VALVE: ("common AV valve", "common atrioventricular valve"),
    Finding.PERICARDIAL_EFFUSION: ("{size}pericardial effusion{mm}", "{size}pericardial effusion"),
}  # fmt: skip
