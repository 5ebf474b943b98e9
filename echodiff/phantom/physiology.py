"""Size and function of a normal heart by sex, age and body surface.

Adults: means, spreads and limits of the ASE/EACVI recommendations for chamber quantification (Lang
et al., J Am Soc Echocardiogr 28:1-39, 2015), biplane volumes. Children: volumes that grow a little
faster, and lengths that grow a little slower, than body surface and its root.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from echodiff.anatomy import AgeGroup, Sex

ADULT_BSA_M2 = 1.85
"""Body surface at which lengths are those of an adult."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """Whose heart it is."""

    sex: Sex
    age_years: float
    bsa_m2: float
    """Body surface area."""

    @property
    def age_group(self) -> AgeGroup:
        """Infant below 1 year, child below 18."""
        if self.age_years >= 18:
            return AgeGroup.ADULT
        return AgeGroup.CHILD if self.age_years >= 1 else AgeGroup.INFANT

    @property
    def is_adult(self) -> bool:
        """18 years or more."""
        return self.age_group is AgeGroup.ADULT

    @property
    def length_scale(self) -> float:
        """Lengths of this heart as a share of an adult's; 1 for adults."""
        return 1.0 if self.is_adult else float((self.bsa_m2 / ADULT_BSA_M2) ** 0.45)

    @property
    def leaflet_scale(self) -> float:
        """Thickness of leaflets as a share of an adult's: those of small hearts are less thin."""
        return max(self.length_scale, 0.7)

    @property
    def rv_wall_scale(self) -> float:
        """Thickness of the right ventricle's wall as a share of an adult's.

        At birth it is as thick as the left ventricle's; within the first months it thins.
        """
        return self.length_scale * (1 + 1.5 * float(np.exp(-self.age_years / 0.1)))


def sample_person(rng: np.random.Generator, age_group: AgeGroup | None = None) -> Person:
    """Draw an adult, or a person of the given age group; children are small for a year or two."""
    sex = Sex.MALE if rng.random() < 0.5 else Sex.FEMALE
    if age_group is AgeGroup.INFANT:
        age = float(rng.uniform(0.02, 0.98))
    elif age_group is AgeGroup.CHILD:
        age = float(rng.uniform(1, 17.9))
    else:
        age = draw(rng, 55, 17, 18, 90)
        height = draw(rng, 177, 7, 160, 198) if sex is Sex.MALE else draw(rng, 164, 6, 148, 184)
        weight = draw(rng, 25, 3, 19, 32) * (height / 100) ** 2
        return Person(sex=sex, age_years=round(age, 1), bsa_m2=_mosteller(height, weight))
    grown = 1.85 if sex is Sex.MALE else 1.62
    curve = ((0, 0.21), (0.5, 0.37), (1, 0.46), (5, 0.75), (10, 1.12), (14, 1.52), (18, grown))
    ages, surfaces = zip(*curve, strict=True)
    bsa = float(np.interp(age, ages, surfaces)) * draw(rng, 1, 0.08, 0.85, 1.2)
    return Person(sex=sex, age_years=round(age, 2), bsa_m2=round(bsa, 3))


def _mosteller(height_cm: float, weight_kg: float) -> float:
    return round(float(np.sqrt(height_cm * weight_kg / 3600)), 3)


@dataclass(frozen=True, kw_only=True)
class NormalHeart:
    """Measurements of a normal heart at end of diastole, atria at their largest."""

    edv_ml: float
    """Left-ventricular volume."""
    ef: float
    """Left-ventricular ejection fraction, percent."""
    slenderness: float
    """Length of the left ventricle by its diameter."""
    wall_mm: float
    septum_mm: float
    la_ml_m2: float
    """Largest left-atrial volume by body surface."""
    ra_ml_m2: float
    rv_basal_mm: float
    """Right ventricle, septum to free wall, where it is widest."""
    rv_length_mm: float
    rv_wall_mm: float
    leaflet_mm: float


def sample_normal(rng: np.random.Generator, person: Person) -> NormalHeart:
    """Draw the measurements of a normal heart, all within the limits."""
    is_male, scale = person.sex is Sex.MALE, person.length_scale
    if person.is_adult:
        index = draw(rng, 54, 10, 36, 73) if is_male else draw(rng, 45, 8, 30, 60)
        edv_ml = float(np.clip(index * person.bsa_m2, *((63, 149) if is_male else (47, 105))))
        ef = draw(rng, 62, 5, 52.5, 71.5) if is_male else draw(rng, 64, 5, 54.5, 73.5)
        wall_mm = draw(rng, 8.4, 0.9, 6.3, 9.8) if is_male else draw(rng, 7.5, 0.7, 6.2, 8.8)
        la, ra = draw(rng, 25, 4.5, 17, 33.5), draw(rng, 25, 5, 16, 31.5)
        ra = ra if is_male else ra * 0.84
    else:
        edv_ml = 52 * person.bsa_m2**1.2 * draw(rng, 1, 0.13, 0.75, 1.25)
        ef = draw(rng, 64, 4.5, 56, 73)
        wall_mm = 7.9 * scale * draw(rng, 1, 0.1, 0.8, 1.18)
        la, ra = draw(rng, 23, 4, 15, 32), draw(rng, 22, 4, 14, 30)
    slenderness = draw(rng, 1.8, 0.09, 1.62, 2.0)
    # Relative wall thickness is at most 0.42: the diameter bounds the wall.
    diameter_mm = 2 * (1000 * edv_ml / (4.6 * slenderness)) ** (1 / 3)
    wall_mm = min(wall_mm, 0.205 * diameter_mm)
    limit = (9.9 if is_male else 8.9) * scale * (1.0 if person.is_adult else 1.1)
    size = scale if not person.is_adult else (1.0 if is_male else 0.94)
    return NormalHeart(
        edv_ml=edv_ml,
        ef=ef,
        slenderness=slenderness,
        wall_mm=wall_mm,
        septum_mm=min(wall_mm * float(rng.uniform(0.98, 1.1)), max(limit, wall_mm)),
        la_ml_m2=la,
        ra_ml_m2=ra,
        rv_basal_mm=draw(rng, 33, 3, 26.5, 40) * size,
        rv_length_mm=draw(rng, 71, 5, 60, 82) * size,
        rv_wall_mm=draw(rng, 3.2, 0.5, 2.3, 4.5) * person.rv_wall_scale,
        leaflet_mm=draw(rng, 1.9, 0.25, 1.5, 2.5) * person.leaflet_scale,
    )


def draw(rng: np.random.Generator, mean: float, spread: float, low: float, high: float) -> float:
    """Draw from a normal distribution that is cut at its limits, not piled up on them."""
    while not low <= (value := float(rng.normal(mean, spread))) <= high:
        pass
    return value
