"""Canonical words of a report: spellings, short forms, and words that are left out."""

SPELLINGS = """
    ventricle: ventricular
    atrium: atrial auricle auricular
    septum: septal septums partition
    septa: septae partitions
    interatrial: inter-atrial interauricular
    interventricular: inter-ventricular
    biatrial: bi-atrial
    biventricular: bi-ventricular
    atrioventricular: atrio-ventricular auriculoventricular a-v av
    chambers: cavities
    cavity: chamber
    parts: sections departments compartments divisions
    side: sided sides
    left: lt
    right: rt
    defect: defects
    dilated: enlarged widened distended ectatic dil enl dilatated dilatative
    dilation: dilatation dilations dilatations enlargement enlargements distension distention
    hypertrophied: hypertrophic
    hypertrophy: hypertrophies hypertrophia
    hypoplastic: underdeveloped rudimentary diminutive
    thick: thickened
    thickening: thickenings
    gap: hole holes break breaks interruption interruptions interrupted discontinuity
        discontinuities perforation perforated communication communications gaps discontinuous
    fenestrated: fenestration fenestrations
    intact: continuous uninterrupted unbroken
    normal: unremarkable healthy physiological wnl normalised normalized normally nl
    unchanged: unaltered unaffected
    abnormality: abnormalities pathology pathologies anomaly anomalies lesion lesions
    abnormal: pathological
    size: sized sizes dimension dimensions diameter diameters volume volumes
    wall: walls
    valves: valve cusp cusps leaflet leaflets valvular
    pericardium: pericardial
    effusion: effusions
    heart: cardiac
    cannot: can't couldn't
    not: isn't aren't wasn't weren't doesn't don't didn't
    no: nil
    none: ø
    without: lacking lacks
    seen: visible visualised visualized detected detectable identified found demonstrated
        evident noted observed shown appreciated recognised recognized revealed documented show
        shows see detect demonstrate demonstrates reveal reveals identify visualise visualize
        noticed
    possible: possibly probable probably likely perhaps maybe suspected suspect suspicion
        suspicious suggests suggested suggesting suggestive suggestion suggest questionable
        equivocal uncertain
        unclear doubtful query presumed presumably presumptive borderline may might
        could seems seem apparently apparent concerning question whether indication potential
        potentially ddx dd doubt debatable unlikely unconfirmed unproven consider considered
        considering
    history: previously previous prior formerly former earlier last
    repair: repaired closure patch patched occluder occluded device corrected correction surgery
        operated postoperative operation amplatzer post-operative postop post-op
    significant: significantly relevant major haemodynamically hemodynamically substantial
    severe: severely sev gross grossly marked markedly massive
    moderate: moderately mod
    mild: mildly slight slightly
    increased: increase increases elevated
    reduced: decreased diminished reduction decrease decreases
    assessed: evaluated evaluable assessable examined interpretable judged
    poorly: inadequately suboptimally insufficiently incompletely barely hardly
    planned: suitable candidate scheduled awaiting amenable requires recommended before planning
        needs preoperative
    due: owing secondary
    drained: drainage evacuated aspirated tapped punctured pericardiocentesis
    excluded: refuted
    confirmed: proven confirm
    criteria: criterion
    thickness: thicknesses
    exclude: excludes excluding
"""
"""Canonical word, then its other forms and spellings."""

SHORT_FORMS = """
    left ventricle: lv
    right ventricle: rv
    left atrium: la
    right atrium: ra
    interatrial septum: ias
    interventricular septum: ivs ivsd
    mitral valves: mv
    tricuspid valves: tv
    atrioventricular valves: avv avvs
    common atrioventricular valves: cavv
    left ventricle wall: lvpw lvpwd
    posterior wall: pw pwd
    left ventricle wall thickness: lvwt
    asd: asds iasd
    asd ii: asdii asd2
    asd i: asdi asd1
    perimembranous vsd: pmvsd
    muscular vsd: mvsd
    vsd: vsds
    not dilated: nondilated undilated unenlarged nonenlarged non-dilated non-enlarged
    not thick: unthickened non-thickened nonthickened
    not hypertrophied: non-hypertrophied nonhypertrophied non-hypertrophic
    without: w/o
    history: h/o s/p
    possible: r/o
    with: c/w w/
    negative: -ve neg
    possible gap: drop-out dropout drop-outs dropouts
    normal: ok
    or: and/or
    and: & plus +
    atrioventricular septum defect: avsd avsds
    complete atrioventricular septum defect: cavsd cavc
    partial atrioventricular septum defect: pavsd
    atrioventricular canal: avc
    function: lvef ef fac tapse
"""
"""Canonical words, then what is short for them."""

FILLERS = """
    the a an its this these those is are was were be been being has have had does do did there any
    evidence sign signs also still very quite obvious overt rather somewhat appears appear
    appearing looks look which that it conclusion impression diagnosis summary type kind form
    congenital structural structurally functionally anatomically morphologically intracardiac
    otherwise too fetal foetal patient's child's today transthoracic
    transoesophageal transesophageal
"""
"""Words that say nothing of a finding."""
