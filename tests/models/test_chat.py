"""Chat templates: as transformers writes them, in a sandbox with bounds."""

from __future__ import annotations

import pytest

from optkit.errors import DataError
from optkit.models import chat
from optkit.models.chat import ChatTemplate, is_chat
from optkit.models.text import TextEncoder
from optkit.models.tokenization import FILE, record
from tests.conftest import write_tokenizer

TOKENS = {"bos_token": "[CLS]", "eos_token": "[SEP]"}
#: The ways in which models write messages: ChatML, with a system text of its own; Gemma's, which has none and
#: names the assistant otherwise; Llama 3's, with a date; and one with what few use.
TEMPLATES = {
    "chatml": r"""{%- if messages[0]['role'] != 'system' %}
{{- '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}""",
    "gemma": r"""{{ bos_token }}
{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate') }}{% endif %}
    {% set role = message['role'] %}
    {% if role == 'assistant' %}{% set role = 'model' %}{% endif %}
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}
{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}""",
    "llama": r"""{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = strftime_now("%Y") %}{%- endif %}
{%- set ns = namespace(system='') %}
{%- for message in messages if message.role == 'system' %}{%- set ns.system = message.content %}{%- endfor %}
{{- "<|system|>Today: " + date_string + "\n" + ns.system + eos_token }}
{%- for message in messages %}{%- if message.role == 'system' %}{%- continue %}{%- endif %}
{{- '<|' + message['role'] + '|>' + message['content'] | trim + eos_token }}{%- endfor %}
{{- '<|assistant|>' }}""",
    "rare": r"""{% for m in messages %}
{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}
{% else %}{{ m | tojson(indent=1) }}{{ dict(a=m.role).items() | list }}{% endif %}
{% if loop.index > 2 %}{% break %}{% endif %}
{% endfor %}""",
}
ASKED = [{"role": "user", "content": ' A fine <film> & \\"plot\\"? '}]
LONG = [*ASKED, {"role": "assistant", "content": "Good."}, {"role": "user", "content": "Why?\n"}]


@pytest.mark.parametrize("messages", [ASKED, LONG, [{"role": "system", "content": "Short."}, *LONG]])
@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_prompt_is_that_of_transformers(tmp_path, kind, messages):
    import jinja2
    from transformers import AutoTokenizer

    write_tokenizer(tmp_path)
    theirs = AutoTokenizer.from_pretrained(str(tmp_path), chat_template=TEMPLATES[kind], **TOKENS)
    theirs.save_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    record(tmp_path, tmp_path)
    assert (tmp_path / FILE).exists()
    reading = TextEncoder(tmp_path)
    ours = ChatTemplate(reading.tokenization.chat_template, reading.tokenization.special_tokens)
    try:
        expected = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except jinja2.TemplateError as reason:
        with pytest.raises(DataError, match=str(reason)):
            ours.render(messages)
        return
    assert ours.render(messages) == expected
    ids = theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert reading.whole([expected], special=False) == [ids]


def test_parts_of_text_are_one_and_what_is_none_is_refused():
    template = ChatTemplate("{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}", {})
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert template.render([{"role": "user", "content": parts}]) == "user:a\nb;"
    assert is_chat([{"role": "user"}])
    assert not is_chat("a text")
    assert not is_chat(["a", "b"])
    wrong = (
        *([], [{"role": "user"}], [{"content": "a"}], [{"role": 1, "content": "a"}]),
        *([{"role": "user", "content": [{"type": "image"}]}], [{"role": "user", "content": None}]),
    )
    for messages in wrong:
        with pytest.raises(DataError, match="position 3"):
            template.render(messages, 3)


HOSTILE = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.system('true') }}",
    "namespace": "{{ namespace(__class__=1) }}{{ namespace.__init__.__globals__ }}",
    "by filter": "{{ messages | attr('__class__') }}{{ (messages | attr('__class__')).__mro__ }}",
    "changes": "{{ messages.append(1) }}",
    "includes": "{% include '/etc/passwd' %}",
    "syntax": "{% for %}",
    "names": "{{ nothing.at.all }}",
    "endless text": "{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_a_template_may_not_do_is_an_error(kind):
    with pytest.raises(DataError, match="chat template (fails|wrote)"):
        ChatTemplate(HOSTILE[kind], {}).render(ASKED)


BOUNDED = {
    "time": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "memory": "{% set n = namespace(a='a') %}{% for i in range(40) %}{% set n.a = n.a ~ n.a %}{% endfor %}",
}


@pytest.mark.parametrize("kind", BOUNDED)
def test_time_and_memory_are_bounded_and_the_next_prompt_is_written(kind, monkeypatch, real_children):
    template = ChatTemplate("{% if messages | length > 1 %}" + BOUNDED[kind] + "{% endif %}yes", {})
    assert template.render(ASKED) == "yes"
    monkeypatch.setattr(chat, "TIMEOUT_S", 2.0)
    template._child.timeout_s = 2.0
    with pytest.raises(DataError, match="did not end|MemoryError"):
        template.render(LONG)
    monkeypatch.setattr(chat, "TIMEOUT_S", 20.0)
    assert template.render(ASKED) == "yes"
