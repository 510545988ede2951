"""The languages that Whisper knows, by their codes and names.

Source: transformers 5.23, models/whisper/tokenization_whisper.py.
"""

from __future__ import annotations

_NAMES = (
    "en:english zh:chinese de:german es:spanish ru:russian ko:korean fr:french ja:japanese pt:portuguese "
    "tr:turkish pl:polish ca:catalan nl:dutch ar:arabic sv:swedish it:italian id:indonesian hi:hindi "
    "fi:finnish vi:vietnamese he:hebrew uk:ukrainian el:greek ms:malay cs:czech ro:romanian da:danish "
    "hu:hungarian ta:tamil no:norwegian th:thai ur:urdu hr:croatian bg:bulgarian lt:lithuanian la:latin "
    "mi:maori ml:malayalam cy:welsh sk:slovak te:telugu fa:persian lv:latvian bn:bengali sr:serbian "
    "az:azerbaijani sl:slovenian kn:kannada et:estonian mk:macedonian br:breton eu:basque is:icelandic "
    "hy:armenian ne:nepali mn:mongolian bs:bosnian kk:kazakh sq:albanian sw:swahili gl:galician mr:marathi "
    "pa:punjabi si:sinhala km:khmer sn:shona yo:yoruba so:somali af:afrikaans oc:occitan ka:georgian "
    "be:belarusian tg:tajik sd:sindhi gu:gujarati am:amharic yi:yiddish lo:lao uz:uzbek fo:faroese "
    "ht:haitian_creole ps:pashto tk:turkmen nn:nynorsk mt:maltese sa:sanskrit lb:luxembourgish my:myanmar "
    "bo:tibetan tl:tagalog mg:malagasy as:assamese tt:tatar haw:hawaiian ln:lingala ha:hausa ba:bashkir "
    "jw:javanese su:sundanese yue:cantonese my:burmese ca:valencian nl:flemish ht:haitian lb:letzeburgesch "
    "ps:pushto pa:panjabi ro:moldavian ro:moldovan si:sinhalese es:castilian zh:mandarin"
)
#: Name → code.
CODES = {name.replace("_", " "): code for code, name in (pair.split(":") for pair in _NAMES.split())}


def token_of(language: str) -> str:
    """The token that stands for `language`: a name, a code, or the token itself.

    >>> token_of("German"), token_of("de"), token_of("<|de|>")
    ('<|de|>', '<|de|>', '<|de|>')
    """
    language = language.lower()
    return language if language.startswith("<|") else f"<|{CODES.get(language, language)}|>"
