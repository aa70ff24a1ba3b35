"""The words a question is made of that carry no content, and small families of words that mean nearly the same."""

from __future__ import annotations

from typing import Final

from rlm.offline.cells.ranking import words

_EMPTY = """
a about above across actually after again all also am among an and another any anyone anything are aren't around as ask asked at away
be became because been before being below between both but by can cannot can't come could did didn't do does doesn't doing done don't
during each either else ever every everyone everything exactly explain few find first for from get gets give given go goes going got had
has have having he her here hers him his how however i i'd i'm if in into is isn't it it's its itself just kind know let like list look
make many may me might more most much must my name near never no nor not of off often on once one only or other our out over own part
people please quite rather really related same say said saying says see shall she should show so some somebody someone something sort such
talk talked talking talks tell telling that the their them then there these they thing things this those though through time times to told
too toward under until up upon us use used using very was we were what what's when where which while who whom whose why will with within
without word words would yes yet you your mention mentioned mentions mentioning discuss discussed discusses discussion describe described
episode episodes podcast podcasts transcript transcripts document documents file files corpus text speaker speakers quote quotes passage
according answer question according regarding concerning main different various end
think thinks thought thoughts opinion opinions view views feel feels argue argues claim claims believe believes
"""
EMPTY_WORDS: Final = set(_EMPTY.split())
EMPTY: Final = set(words(_EMPTY))

FAMILIES: Final = [
    set(words(family))
    for family in (
        "create creator created founder founded found author authored inventor invent built build started maker maintainer wrote develop",
        "promise promised swear vow pledge",
        "disagree disagreement contradict dispute wrong differ argue",
        "agree agreement same",
        "cost price pay paid dollar money expensive cheap fee euro pound",
        "job work employed employer company position role career",
        "company startup business firm",
        "begin began start started origin",
        "stop stopped quit end ended finish cease",
        "last final finally ended",
        "old age aged born birthday",
        "live lives living reside based home hometown born",
        "favourite favorite best prefer love loved",
        "recommend recommendation suggest advise advice recommended",
        "problem issue trouble difficulty challenge struggle",
        "hard difficult tough challenging hardest",
        "easy simple simpler easier",
        "fast quick speed performance faster slow slower",
        "car vehicle automobile truck",
        "child children kid son daughter",
        "wife husband spouse married marry partner",
        "mother mum mom mama",
        "father dad papa",
        "doctor physician medic",
        "movie film cinema",
        "book novel author read",
        "kill killed die died dead death slain",
        "fight battle attack combat fought",
        "buy bought purchase acquire",
        "sell sold selling sale",
        "big large huge enormous great",
        "small little tiny",
        "picture photo photograph image",
        "learn study studied taught teach school education university college degree",
        "reason because cause why",
        "difference differ different versus compare unlike",
        "advantage benefit strength pro",
        "disadvantage drawback downside weakness limitation con",
        "meet met meeting",
        "sponsor sponsored brought sponsorship",
        "guest joined welcome introduce interview",
        "host presenter",
        "release released launch launched ship shipped publish published",
        "future plan planned roadmap next upcoming",
        "money fund funding funded raise invest investor",
        "team colleague staff employee",
        "language tongue speak",
        "inside contain content held",
        "happen happened occur event",
        "fear afraid scared frighten",
        "secure security safe safety protect",
        "bug error fault defect",
        "vegetable food eat ate meal dinner lunch supper",
        "record recorded date",
        "hometown grew raised born",
        "disappear vanish vanished fade gone",
        "angry furious mad rage cross",
        "sad cry cried tears weep sob",
        "laugh laughed smile grin funny joke",
        "baby infant child",
        "house home",
        "rich wealthy wealth",
        "mistake error regret wrong",
        "hire hiring recruit",
        "customer client user",
        "robot bot",
        "competitor competition rival alternative",
        "install setup configure",
        "translate translation localization",
        "trial court judge jury verdict",
        "escape flee fled",
        "capture captured caught prisoner prison",
    )
]

# How people are asked about by what they do with words.
SPEECH: Final = (
    r"\b(?:say|says|said|saying|think|thinks|thought|tell|tells|told|talk|talks|talked|mention|mentions|mentioned|argue|argues|argued|"
    r"believe|believes|believed|claim|claims|claimed|feel|feels|felt|describe|describes|described|opinion|view|views|according to|"
    r"explain|explains|explained|recommend|recommends|recommended|promise|promises|promised|suggest|suggests|suggested|advise|advises|"
    r"advice|ask|asks|asked|answer|answers|answered|reply|replied|respond|responded|admit|admits|admitted|state|states|stated|"
    r"position on|stance|quote|quotes|like|likes|dislike|love|hate|prefer|complain|joke|remember|recall|warn|warned)\b"
)

# Words that say what is asked rather than what it is about: seldom in the answer, and then anywhere.
GENERIC: Final = set(
    words(
        "make made making create do use using say talk get got work working start come began came go went happen become find found build built "
        "develop develops think tell know want need help show run give take try keep put call called mean means "
        "way reason difference argument effect impact role idea benefit kind type example point person thing founded "
        "up bring good best better well new able actually handle deal let allow first early many much several various whole set put own fit "
        "possible turn ever"
    )
)

# Forms of one word that do not look alike, the plainest first.
IRREGULAR: Final = [
    line.split()
    for line in (
        "leave left leaving", "meet met", "get got gotten", "become became", "begin began begun", "write wrote written",
        "speak spoke spoken", "teach taught", "buy bought", "build built", "make made", "steal stole stolen", "think thought",
        "go went gone", "grow grew grown", "know knew known", "run ran", "sell sold", "lose lost", "win won", "fall fell fallen",
        "feel felt", "keep kept", "hear heard", "hold held", "lead led", "pay paid", "send sent", "spend spent", "eat ate eaten",
        "drink drank drunk", "drive drove driven", "fly flew flown", "choose chose chosen", "break broke broken", "fight fought",
        "catch caught", "bring brought", "sing sang sung", "swim swam", "throw threw thrown", "wear wore worn", "draw drew drawn",
        "give gave given", "take took taken", "see saw seen", "come came", "hide hid hidden", "sleep slept", "child children",
        "man men", "woman women", "mouse mice", "foot feet", "tooth teeth", "forget forgot forgotten", "rise rose risen",
        "shake shook", "stand stood", "strike struck", "swear swore sworn", "wake woke", "find found", "bind bound", "die died dying",
        "lie lay", "understand understood", "shoot shot", "sit sat", "ride rode ridden", "freeze froze frozen", "learn learnt",
        "burn burnt", "dream dreamt", "quit quitting", "life lives", "wife wives", "beat beaten", "bite bit bitten", "blow blew blown",
    )
]  # fmt: skip

# What people say for it in several words, and the words that may stand in the answer.
SAID_FOR: Final = {
    r"\bg[eo]t(?:ten|ting)? (?:\w+ )?(?:into|involved|started)\b": "start started introduced began interested discover learn",
    r"\b(?:come|came|comes) up with\b": "idea invented proposed propose designed",
    r"\bmake(?:s)? money\b|\bbusiness model\b|\bmonetiz": "money revenue business sell pay paid hosted customers enterprise",
    r"\bbased in\b|\bcome(?:s)? from\b": "live from",
    r"\bhow old\b": "age years old",
    r"\bdifferen(?:ce|t)\b|\bcompare|\bversus\b|\bvs\b": "unlike whereas than instead rather",
    r"\bwork day\b|\bworkday\b|\bwork week\b": "morning day week typical schedule routine",
    r"\bfor and against\b|\bpros and cons\b|\btrade-?offs?\b": "advantage disadvantage argue argument downside benefit",
    r"\bworr(?:y|ied|ies)\b|\bconcern(?:s|ed)?\b|\bafraid\b": "risk problem fear scare danger threat",
    r"\bfund(?:ed|ing)?\b": "raise raised money investors seed round grant sponsor",
}  # fmt: skip

# What frames a show and is about nothing.
DULL: Final = (
    r"welcome (?:back )?to\b|\bwe're back\b|sponsor|brought to you|follow (?:me|us)\b|subscribe|(?:you're|you are) listening|check (?:it|them|this|that) out|"
    r"visit \S+\.\w|\w\.(?:fm|com|io|org)/|patreon|live ?streams?\b|this is your host|support the show|for (?:listening|having me|being here|coming)|show notes|"
    r"promo ?code|free trial|sign up (?:for|at)|was made with|transcripts (?:for|of) this|take a listen|keep up with|past episodes|see you (?:later|next)|great to (?:be|have)|nice to (?:be|meet)|"
    r"awesome to have|thanks (?:so much|a lot|for)|happy to be"
)
