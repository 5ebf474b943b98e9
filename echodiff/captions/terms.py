"""Terms of an echo report: spellings, short forms, and what each term says.

A line is `meaning: term; term`. In a term, `{a|b}` stands for either; words are canonical ones, and
words of `FILLERS` are left out.
"""

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
    defect: defects
    dilated: enlarged widened distended ectatic dil enl
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
    normal: unremarkable healthy physiological wnl normalised normalized normally
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
        suspicious suggests suggesting suggestive suggestion suggest questionable equivocal
        uncertain unclear doubtful query presumed presumably presumptive borderline may might
        could seems seem apparently apparent concerning question whether indication potential
        potentially ddx dd doubt debatable unlikely unconfirmed unproven consider considered
        considering
    history: previously previous prior formerly former earlier
    repair: repaired closure patch patched occluder occluded device corrected correction surgery
        operated postoperative operation amplatzer post-operative postop post-op
    significant: significantly relevant major haemodynamically hemodynamically substantial
    severe: severely sev gross grossly marked markedly massive
    moderate: moderately mod
    mild: mildly slight slightly
    increased: increase increases elevated
    reduced: decreased diminished reduction
    assessed: evaluated evaluable assessable examined interpretable judged
    poorly: inadequately suboptimally insufficiently incompletely barely hardly
    planned: suitable candidate scheduled awaiting amenable requires recommended before planning
        needs preoperative
    due: owing secondary
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
    evidence sign signs entirely completely fully definitively safely reliably certainty also
    still very quite obvious overt rather somewhat appears appear appearing looks look which that
    it conclusion impression diagnosis summary type kind form
"""
"""Words that say nothing of a finding."""

PARTS = """
    LV: left ventricle; left ventricles; ventricle left; left ventricle cavity
    RV: right ventricle; right ventricles; ventricle right; right ventricle cavity
    LA: left atrium; left atria; atrium left; left atrium cavity
    RA: right atrium; right atria; atrium right; right atrium cavity
    LV-wall: left ventricle {wall|myocardium|free wall|posterior wall}; wall of left ventricle;
        myocardium of left ventricle
    RV-wall: right ventricle {wall|myocardium|free wall}; {wall|free wall|myocardium} of right
        ventricle
    LV-wall RV-wall: {both|left {and|or} right} {ventricle|ventricles} wall; wall of both
        ventricles
    LV RV: ventricles; both ventricles; {left {and|or|nor|,} right|right {and|or|nor|,} left}
        {ventricle|ventricles}; biventricular; ventricle chambers; both ventricle chambers
    LA RA: atria; both atria; {left {and|or|nor|,} right|right {and|or|nor|,} left}
        {atrium|atria}; biatrial; atrium chambers; both atrium chambers
    LV LA: left {|heart |side }{side|chambers|heart|parts}; left {parts|side|chambers} of heart;
        chambers of left heart; left {ventricle {and|or} atrium|atrium {and|or} ventricle}
    RV RA: right {|heart |side }{side|chambers|heart|parts}; right {parts|side|chambers} of
        heart; chambers of right heart; right
        {ventricle {and|or} atrium|atrium {and|or} ventricle}
    LV RV LA RA: {|both |all |four |4 |all four |all 4 }{|heart }chambers; chambers of heart;
        {left {and|or|nor|,} right|right {and|or|nor|,} left|both}
        {side|hearts|heart|parts|chambers} {|of heart}; all parts
    IAS: {atrium|interatrial|atria|inter atrium} {septum|septa}; interatrial; fossa ovalis; oval
        fossa; between {|both |two }atria; septum between atria
    IVS: {ventricle|interventricular|inter ventricle|muscular|membranous|inlet} {septum|septa};
        interventricular; between {|both |two }ventricles; septum between ventricles; basal
        septum
    IAS IVS: {|both |all |heart }septa; both septum; {|both }{atrium|interatrial} {and|or|,}
        {ventricle|interventricular} {septum|septa}; {|both }{ventricle|interventricular}
        {and|or|,} {atrium|interatrial} {septum|septa}
    SEPTUM: septum
    WALL: wall; myocardium; posterior wall; free wall
    MV TV: {|both |all |heart |two }{|atrioventricular }valves;
        {mitral {|valves }{and|or|,} tricuspid|tricuspid {|valves }{and|or|,} mitral} {|valves}
    MV: {|anterior |posterior |both }mitral valves; mitral
    TV: {|septum |anterior |both }tricuspid valves; tricuspid
    PERICARDIUM: pericardium; pericardium {sac|space|cavity}
    HEART: heart; {|heart |intracardiac }{anatomy|structure|structures|morphology}; heart valves
    -: septum {primum|secundum}; {left|right} atrium wall; atrium wall; wall motion; chest wall;
        {four|4|two|2|three|3|five|5} {chambers|cavity|chamber}
        {view|position|parts|plane|window}; {aortic|pulmonary|semilunar|pulmonic|eustachian}
        valves; pericardium patch; {|patent }foramen ovale; heart
        {rate|failure|catheter|rhythm|transplant|output|surgery}; {right|left} heart
        {failure|catheter}; ductus arteriosus; {|ventricle |interventricular }septum motion;
        pleural effusion; pericardium thickening;
        {normal|reduced|systolic|regional|good|preserved} wall thickening; pulmonary
        {artery|veins|trunk}; {mitral|tricuspid|atrioventricular}
        {annulus|ring|stenosis|regurgitation}; left ventricle outflow tract; right ventricle
        outflow tract
"""
"""Parts of the heart; `-` are structures without a finding here."""

OTHER_NOUNS = """
    outflow lvot rvot tract function ejection fraction systolic diastolic contractility
    contraction filling pressure pressures hypertension appendage lead leads pacemaker thrombus
    thrombi mass tumour tumor aneurysm strain inflow regurgitation insufficiency stenosis prolapse
    aorta aortic ascending root pulmonary artery arteries vein veins cava ivc svc coronary sinus
    annulus annular ring chordae papillary moderator band flow shunt gradient velocity doppler
    colour color motion kinesis hypokinesia hypokinetic akinesia liver lung pleural ascites
    quality image images window windows view views position rhythm rate chest relaxation
    compliance movement excursion calcification fistula coarctation vegetation shadow catheter
    trabeculations output load overload preload
"""
"""Nouns that make the part before or after them another structure ("left ventricular function")."""

STATES = """
    dilated: dilated; dilation*; {increased|big} size; size increased; big; bulky; increased
        {end|} diastolic size; cardiomegaly*
    large: large
    small: hypoplastic; hypoplasia*
    narrow: narrow; small; slit-like; not big
    hypertrophied: hypertrophied; hypertrophy*
    thick: thick; thickening*; increased {|wall }thickness; thickness increased
    thin: thin
    open: gap*; open; fenestrated; defect*; deficient; missing; patent; residual {shunt|leak}*
    intact: intact; defect free
    closed: closed
    normal: normal; unchanged; not changed; within normal limits; without abnormality; without
        deviations; within age norm; appropriate for age
    abnormal: abnormality*; abnormal; heart disease*;
        {above|below|larger than|smaller than|greater than|more than|less than|near|nearly|almost}
        normal; not normal; {outside|beyond|above} normal limits
    increased: increased
    reduced: reduced
"""
"""States of a part; `*` marks nouns."""

MENTIONS = """
    asd: asd; {atrium|interatrial|atrium level} defect; {common|single} atrium;
        {atrium|interatrial} {septum|septa} defect; {absence of|absent} {atrium|interatrial}
        septum
    asd-kind: {|ostium |os }{secundum|primum}{| defect| asd| atrium septum defect};
        {|atrium }sinus venosus{| defect| asd| atrium septum defect}; septum secundum defect;
        {asd|atrium septum defect} {|ostium }{secundum|primum}; asd {i|ii}
    vsd: vsd; {ventricle|interventricular} defect; {ventricle|interventricular} {septum|septa}
        {defect|rupture}
    vsd-kind: {muscular|inlet|perimembranous|membranous|outlet}
        {defect|vsd|ventricle septum defect};
        {subaortic|supracristal|doubly committed|apical muscular} {defect|vsd};
        {vsd|ventricle septum defect} {muscular|inlet|perimembranous|membranous|outlet}; swiss
        cheese {|defect|vsd|septum}
    both-defects: {atrium|interatrial} {and|,} {ventricle|interventricular} septum defect;
        {ventricle|interventricular} {and|,} {atrium|interatrial} septum defect
    septal-defects: {atrium|interatrial} or {ventricle|interventricular} septum defect;
        {ventricle|interventricular} or {atrium|interatrial} septum defect; {|heart }septum
        defect; defect of septum; defect of septa
    avsd: atrioventricular septum defect; atrioventricular canal {|defect}; endocardial cushion
        defect
    complete-avsd: {complete|balanced|unbalanced} atrioventricular
        {septum defect|canal|canal defect}
    partial-avsd: {partial|incomplete} atrioventricular {septum defect|canal|canal defect}
    lvh: lvh; hcm; hypertrophied cardiomyopathy; {concentric|eccentric} hypertrophy
    rvh: rvh
    both-hypertrophied: bvh; biventricular hypertrophy
    nothing-dilated: no cavity {dilation|dilated}
    dilated-all: {four|4|all} cavity {dilated|dilation}
    dilated-lv: lve; dcm; dilated cardiomyopathy
    dilated-rv: rve
    dilated-la: lae
    dilated-ra: rae
    hypoplastic-lv: hlhs; hypoplastic left heart {|syndrome}
    hypoplastic-rv: hrhs; hypoplastic right heart {|syndrome}
    septal-hypertrophy: ash; {asymmetric|asymmetrical}
        {|septum |basal }{hypertrophy|hypertrophied cardiomyopathy}; septum hypertrophy
    other-defect: pfo; pda; {|patent }foramen ovale; {|patent }ductus arteriosus
    effusion: {|pericardium }effusion; pericardium {and|or} pleural effusion; pleural {and|or}
        pericardium effusion; pericardium fluid; fluid in pericardium {|space|sac|cavity};
        {hydropericardium|haemopericardium|hemopericardium}
    common-valve: common valves; {common|single|one} atrioventricular
        {valves|junction|orifice|annulus}
    fallot: tetralogy of fallot; tof; fallot
    normal-heart: normal {echocardiogram|echo|study|examination|exam|scan|findings};
        {echocardiogram|echo|study|examination|exam|scan|findings} normal
"""
"""Terms that name a finding by themselves."""

FUNCTION_WORDS = """
    NEGATION: no; not; without; never; neither; free {of|from}; negative for; absence of; lack
        of; nothing; no longer; non; free
    DENIAL: not {seen|present|there}; no longer {seen|present}; absent; excluded; ruled out;
        none; negative; could not seen; cannot seen; can not seen; not demonstrable; resolved;
        regressed; denied; false; disappeared; not exist
    DOUBT: possible; not {excluded|exclude|ruled out|assessed};
        {cannot|can not|could not|not possible to}
        {excluded|exclude|ruled out|rule out|assessed|commented|judged}; {not|cannot|poorly}
        {clearly|well|definitely|fully|adequately|sufficiently} {seen|assessed}; poorly
        {seen|assessed}; rule out; {not|cannot|could not} confirmed; not {proven|established};
        unable to {exclude|rule out|assess|seen}; {to|for} {exclude|excluded}; exclude;
        {evaluate|assess|evaluation|assessment|check|look|screening|ask} for; risk of; no
        definite; not definite; not certain; {cannot|not} sure; differential; if;
        non-diagnostic; not diagnostic; incompletely seen; difficult to {seen|assessed|exclude}
    PAST: history; status post
    RELATIVE: family; mother; father; sibling; brother; sister
    REPAIR: repair
    PLANNED: planned; for repair; for surgery; prior to repair
    AFFIRMED: present; seen; residual; persistent; persisting; known; confirmed; yes; positive;
        exists; remains; true
    QUALIFIER: significant; severe; moderate; mild; muscular; inlet; outlet; perimembranous;
        membranous; concentric; eccentric; additional; other; second; further; more; new;
        trivial; trace; tiny; minimal; mm; cm; restrictive; nonrestrictive; major; wide;
        partial; complete; isolated; circular; localised; localized
    WORD: partially {closed|repair}; no change; no {|interval |significant }change; no
        progression; no worsening; not only; not just; not merely; {compared|comparison|compare}
        {to|with} {|history}; no doubt; since history; from history; history
        {study|exam|examination|echo|echocardiogram|report}; history to; as before; of child; of
        adult; for age; thickness of
    AND: and; as well as
    OR: or; versus; vs
    NOR: nor
    LINK: with; but; however; although; though; whereas; while; yet; due to; because; because
        of; despite; across; through; via; causing; resulting; leading; therefore; now; related
        to; associated; following; after; accompanied; against
    EXCEPT: except; except for; apart from; other than; aside from; besides; with exception of;
        save for
    OF: of; in; below; under; behind; above; near; at; beneath; beside; adjacent to
    ASPECT: size; cavity size; thickness
"""
"""Words that bear on the findings beside them; see `echodiff.captions.tokens.Kind`."""
