"""Terms of an echo report, and what each says.

A line is `meaning: term; term`. In a term, `{a|b}` stands for either; words are the canonical ones
of `echodiff.captions.spellings`.
"""

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
    VENTRICLE: {|either |each }ventricle
    ATRIUM: {|either |each }atrium
    WALL: {|ventricle }{wall|myocardium}; posterior wall; free wall
    MV TV: {|both |all |heart |two }{|atrioventricular }valves;
        {mitral {|valves }{and|or|,} tricuspid|tricuspid {|valves }{and|or|,} mitral} {|valves}
    MV: {|anterior |posterior |both }mitral valves; mitral
    TV: {|septum |anterior |both }tricuspid valves; tricuspid
    PERICARDIUM: pericardium; pericardium {sac|space|cavity}
    HEART: heart; {|heart }{anatomy|structure|structures|morphology}
    -: {single|common|other} {ventricle|atrium} {|cavity}; septum {primum|secundum};
        {left|right} atrium wall; atrium wall; wall motion; chest wall;
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
    concentric: {concentric|eccentric} {hypertrophied|hypertrophy}*
    thick: thick; thickening*; increased {|wall }thickness; thickness increased
    thin: thin
    open: gap*; open; fenestrated; defect*; deficient; missing; patent; residual {shunt|leak}*
    intact: intact; defect free
    closed: closed
    fluid: {|residual |free }fluid*; collection*
    normal: normal; unchanged; not changed; within normal limits; without abnormality; without
        deviations; within age norm; appropriate for age
    abnormal: abnormality*; abnormal {|changes|findings|structures}; heart disease*;
        {|at |above |over |within |slightly above |mildly above }{upper|lower}
        {limit|limits|end|range} of normal; {upper|lower|high|low} normal {|limit|limits|range};
        {above|below|larger than|smaller than|greater than|more than|less than|near|nearly|almost}
        normal; not normal; {outside|beyond|above} normal limits
    increased: increased
    reduced: reduced
"""
"""States of a part; `*` marks nouns."""

MENTIONS = """
    asd: asd; {atrium|interatrial|atrium level} defect; atrium gap; {common|single} atrium;
        {atrium|interatrial} {septum|septa} defect; {absence of|absent} {atrium|interatrial}
        septum
    asd-kind: {|ostium |os }{secundum|primum}{| defect| asd| atrium septum defect};
        {|atrium }sinus venosus{| defect| asd| atrium septum defect}; septum secundum defect;
        {asd|atrium septum defect} {|ostium }{secundum|primum}; asd {i|ii}
    vsd: vsd; ventricle gap; {ventricle|interventricular} defect;
        {ventricle|interventricular} {septum|septa} {defect|rupture}; {absence of|absent}
        {ventricle|interventricular} septum
    vsd-kind: {muscular|inlet|perimembranous|membranous|outlet}
        {defect|vsd|ventricle septum defect};
        {subaortic|supracristal|doubly committed|apical muscular} {defect|vsd};
        {vsd|ventricle septum defect} {muscular|inlet|perimembranous|membranous|outlet}; swiss
        cheese {|defect|vsd|septum}
    both-defects: {atrium|interatrial} {and|,} {ventricle|interventricular} septum defect;
        {ventricle|interventricular} {and|,} {atrium|interatrial} septum defect
    septal-defects: {atrium|interatrial} {or|nor} {ventricle|interventricular} septum defect;
        {ventricle|interventricular} {or|nor} {atrium|interatrial} septum defect; {|heart }septum
        defect; defect of septum; defect of septa
    avsd: atrioventricular septum defect; atrioventricular canal {|defect}; endocardial cushion
        defect
    complete-avsd: {complete|balanced|unbalanced} atrioventricular
        {septum defect|canal|canal defect}
    partial-avsd: {partial|incomplete} atrioventricular {septum defect|canal|canal defect}
    lvh: lvh
    hcm: hcm; hypertrophied cardiomyopathy
    hocm: hocm; obstructive {hcm|hypertrophied cardiomyopathy}; hypertrophied obstructive
        cardiomyopathy
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
        {|septum |basal }{hypertrophy|hypertrophied cardiomyopathy|hcm}; septum hypertrophy
    other-defect: pfo; pda; {|patent }foramen ovale; {|patent }ductus arteriosus
    effusion: {|pericardium }effusion; pericardium {and|or} pleural effusion; pleural {and|or}
        pericardium effusion; pericardium {fluid|collection|fluid collection}; fluid
        {in|around} pericardium {|space|sac|cavity}; fluid around heart;
        {hydropericardium|haemopericardium|hemopericardium}
    common-valve: common valves; {common|single|one} atrioventricular
        {valves|junction|orifice|annulus}
    fallot: tetralogy of fallot; tof; fallot
"""
"""Terms that name a finding by themselves."""

FUNCTION_WORDS = """
    NEGATION: no; not; without; never; neither; free {of|from}; negative for; absence of; lack
        of; nothing; no longer; non; free
    DENIAL: not {seen|present|there}; no longer {seen|present}; absent; excluded; ruled out;
        none; negative; could not seen; cannot seen; can not seen; not demonstrable; resolved;
        regressed; denied; false; disappeared; not exist
    DOUBT: possible; than; if; cannot sure; not certain; no {definite|known};
        {not|cannot|can not|could not} {definitely|definitively|clearly|well|fully|completely|
        entirely|adequately|sufficiently|confidently|conclusively|reliably|safely|certainly|
        securely} {|excluded|exclude|rule out|ruled out|seen|assessed|confirmed};
        not {excluded|exclude|ruled out|assessed|confirmed|established|sure};
        {cannot|can not|could not|not possible to|neither}
        {excluded|exclude|ruled out|rule out|assessed|commented|judged|confirmed};
        {neither|not|cannot|can not|could not} {confirmed|excluded|ruled out|proven}
        {nor|or} {confirmed|excluded|ruled out|proven};
        {not|cannot|could not} {seen|excluded|ruled out|assessed} with certainty;
        {not|cannot|poorly} {|clearly }{met|meet|fulfilled|fulfil|satisfied|reached};
        poorly {seen|assessed}; rule out; unable to {exclude|rule out|assess|seen};
        {to|for} {exclude|excluded}; exclude;
        {evaluate|assess|evaluation|assessment|check|look|screening|ask} for; risk of; not
        definite; differential; non-diagnostic; not diagnostic; incompletely seen; difficult to
        {seen|assessed|exclude}; {almost|nearly|near|partially|partly|largely|mostly}
        {|completely|complete|fully} {resolved|regressed|disappeared|absent|closed}
    PAST: history; {on|in|at} history {study|exam|examination|echo|echocardiogram|scan}; status
        post
    RELATIVE: family; mother; father; sibling; brother; sister
    REPAIR: repair; drained
    PLANNED: planned; for repair; for surgery; prior to repair
    AFFIRMED: present; seen; residual; remaining; persistent; persisting; known; confirmed; yes;
        positive; exists; remains; true
    QUALIFIER: significant; severe; moderate; mild; muscular; inlet; outlet; perimembranous;
        membranous; concentric; eccentric; additional; other; second; further; more; new;
        trivial; trace; tiny; minimal; mm; cm; restrictive; nonrestrictive; major; wide;
        partial; complete; isolated; circular; localised; localized
    IDIOM: no {|interval |significant }change; no progression; no worsening; no regression; not
        only; not just; not merely; {compared|comparison|compare} {to|with} {|history}; no doubt;
        since history; from history; history {study|exam|examination|echo|echocardiogram|report};
        history to; as before; for; by; both; either; each; of child; of adult; for age;
        thickness of; completely; fully; entirely; partially repair
    STUDY: echo; echocardiogram; echocardiography; study; examination; exam; scan; findings; tte;
        tee; toe
    ONLY: {confined|limited|restricted} {to|in}; isolated to
    AND: and; as well as
    OR: or; versus; vs
    NOR: nor
    LINK: with; but; however; although; though; whereas; while; yet; due to; because; because
        of; despite; across; through; via; causing; resulting; leading; therefore; now; related
        to; associated; following; after; accompanied; against;
        {|clinical |haemodynamic |hemodynamic }{complication|complications|consequence|
        consequences|sequelae|effect|effects|relevance|impact} {of|from};
        {larger|smaller|greater|more|less|bigger|wider} than
    EXCEPT: except; except for; apart from; other than; aside from; besides; with exception of;
        save for
    OF: of; in; on; below; under; behind; above; near; at; beneath; beside; adjacent to
    ASPECT: size; cavity size; thickness
"""
"""Words that bear on the findings beside them; see `echodiff.captions.tokens.Kind`."""
