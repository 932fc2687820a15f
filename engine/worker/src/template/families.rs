//! What templates of the families that know tools do with Jinja: each test is written in the manner of one.

use allerac_engine_link::protocol::ChatInput;

use super::Template;

const TOOLS: &str = r#"[{"type": "function", "function": {"name": "weather", "description": "It's <b>bold</b> & söl",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]"#;
const MESSAGES: &str = r#"[
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Warm?"},
    {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [{"id": "abcdefghi",
        "type": "function", "function": {"name": "weather", "arguments": {"city": "Bern", "days": 1.0}}}]},
    {"role": "tool", "content": "no", "tool_call_id": "abcdefghi"},
    {"role": "tool", "content": "yes", "tool_call_id": "abcdefghi"}
]"#;

fn render(source: &str) -> String {
    let chat = ChatInput {
        messages_json: MESSAGES.into(),
        tools_json: Some(TOOLS.into()),
        variables_json: Some(r#"{"enable_thinking": false}"#.into()),
        prediction: None,
        begun: None,
    };
    Template::new(source.into(), "<s>".into(), "</s>".into()).unwrap().render(&chat).unwrap()
}

#[test]
fn tools_are_written_as_python_writes_json() {
    assert_eq!(
        render("{% for tool in tools %}{{ tool.function | tojson }}{% endfor %}"),
        r#"{"name": "weather", "description": "It's <b>bold</b> & söl", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}"#
    );
    let arguments = "messages[2].tool_calls[0].function.arguments";
    assert_eq!(render(&format!("{{{{ {arguments} | tojson }}}}")), r#"{"city": "Bern", "days": 1.0}"#);
    let pretty = "{\n    \"city\": \"Bern\",\n    \"days\": 1.0\n}";
    for filter in ["tojson(indent=4)", "tojson(4)", "tojson(indent=4, ensure_ascii=False)"] {
        assert_eq!(render(&format!("{{{{ {arguments} | {filter} }}}}")), pretty, "{filter}");
    }
    assert_eq!(render(&format!("{{{{ {arguments} | tojson(indent=none) }}}}")), r#"{"city": "Bern", "days": 1.0}"#);
}

#[test]
fn qwen_groups_answers_and_looks_back() {
    let source = r#"
{%- set ns = namespace(last=messages|length - 1, found=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.found and message.role == "user" and message.content is string %}
        {%- set ns.found = true %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {%- set thought = message.reasoning_content if message.reasoning_content is defined else '' %}
        {%- if loop.index0 > ns.last %}{{- '<think>' + thought.strip('\n') + '</think>' }}{%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
            {{- '<tool_call>\n{"name": "' ~ tool_call.name ~ '", "arguments": ' }}
            {%- if tool_call.arguments is string %}{{- tool_call.arguments }}{%- else %}{{- tool_call.arguments | tojson }}{%- endif %}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '[' }}{%- endif %}
        {{- message.content }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- ']' }}{%- else %}{{- '|' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"#;
    assert_eq!(
        render(source),
        "<think>hm</think><tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\", \"days\": 1.0}}\n\
         </tool_call>[no|yes]<think>\n\n</think>\n\n"
    );
}

#[test]
fn llama_tells_mappings_and_dates() {
    let source = r#"
{%- if strftime_now is defined %}{{- strftime_now("%d %b %Y")|length }}{%- endif %}
{%- if not tools_in_user_message is defined %}{%- set tools_in_user_message = true %}{%- endif %}
{%- if tools_in_user_message and not tools is none %}{{- ' tools' }}{%- endif %}
{%- for message in messages if message.role in ['tool', 'ipython'] or 'tool_calls' in message %}
    {%- if 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}{{- raise_exception("one call at a time") }}{%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- ' {"name": "' + call.name + '", "parameters": ' }}{{- call.arguments | tojson }}{{- "}" }}
    {%- elif message.content is mapping or message.content is not string and message.content is iterable %}
        {{- message.content | tojson }}
    {%- else %}{{- ' ' + message.content }}{%- endif %}
{%- endfor %}"#;
    assert_eq!(render(source), r#"11 tools {"name": "weather", "parameters": {"city": "Bern", "days": 1.0}} no yes"#);
}

#[test]
fn mistral_counts_and_checks_ids() {
    let source = r#"
{%- if messages[0]["role"] == "system" %}{%- set loop_messages = messages[1:] %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- for message in loop_messages | rejectattr("role", "equalto", "tool") | rejectattr("tool_calls", "defined") %}
    {{- bos_token if loop.first and message == user_messages[-1] }}
{%- endfor %}
{%- for tool in tools %}
    {%- set tool = tool.function %}
    {{- '{"type": "function", "function": {' }}
    {%- for key, val in tool.items() if key != "return" %}
        {%- if val is string %}{{- '"' + key + '": "' + val|replace("It's ", "") + '"' }}{%- else %}{{- '"' + key + '": ' + val|tojson }}{%- endif %}
        {%- if not loop.last %}{{- ", " }}{%- endif %}
    {%- endfor %}
    {{- "}}" }}
{%- endfor %}
{%- for message in loop_messages if message.tool_calls is defined and message.tool_calls is not none %}
    {{- "[TOOL_CALLS][" }}
    {%- for tool_call in message.tool_calls %}
        {%- set out = tool_call.function|tojson %}
        {{- out[:-1] }}
        {%- if not tool_call.id is defined or tool_call.id|length != 9 %}{{- raise_exception("ids have length 9") }}{%- endif %}
        {{- ', "id": "' + tool_call.id + '"}' }}
    {%- endfor %}
    {{- "]" + eos_token }}
{%- endfor %}"#;
    assert_eq!(
        render(source),
        "<s>{\"type\": \"function\", \"function\": {\"name\": \"weather\", \"description\": \"<b>bold</b> & söl\", \
         \"parameters\": {\"type\": \"object\", \"properties\": {\"city\": {\"type\": \"string\"}}, \"required\": \
         [\"city\"]}}}[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\", \"days\": 1.0}, \"id\": \
         \"abcdefghi\"}]</s>"
    );
}

#[test]
fn gpt_oss_describes_types_by_macros() {
    let source = r#"
{%- macro kind(spec) -%}
    {%- if spec.type == "array" -%}{{- kind(spec["items"]) }}[]
    {%- elif spec.type is defined and spec.type is iterable and spec.type is not string and spec.type[0] -%}{{- spec.type | join(" | ") }}
    {%- else -%}{{- spec.type | default("any") }}
    {%- endif -%}
{%- endmacro -%}
{%- for tool in tools -%}
    {%- set tool = tool.function -%}
    type {{ tool.name }} = (_: {
    {%- for name, spec in tool.parameters.properties.items() -%}
        {{- name }}{%- if name not in (tool.parameters.required or []) %}?{% endif %}: {{ kind(spec) }}
        {%- if not loop.last %},{% endif %}
    {%- endfor %}}) => any;
{%- endfor %}
{%- set ns = namespace(call=none) %}
{%- for message in messages %}
    {%- if message.role == "assistant" and "tool_calls" in message %}
        {%- set ns.call = message.tool_calls[0].function %}
        {{- "<|channel|>commentary to=functions." ~ ns.call.name ~ " <|constrain|>json<|message|>" ~ ns.call.arguments|tojson ~ "<|call|>" }}
    {%- elif message.role == "tool" %}
        {%- if ns.call is none %}{{- raise_exception("an answer to nothing") }}{%- endif %}
        {{- "<|start|>functions." + ns.call.name }}{{- " to=assistant<|message|>" + message.content|tojson }}
    {%- endif %}
{%- endfor %}"#;
    assert_eq!(
        render(source),
        "type weather = (_: {city: string}) => any;<|channel|>commentary to=functions.weather <|constrain|>json<|message|>\
         {\"city\": \"Bern\", \"days\": 1.0}<|call|><|start|>functions.weather to=assistant<|message|>\"no\"\
         <|start|>functions.weather to=assistant<|message|>\"yes\""
    );
}

#[test]
fn deepseek_and_command_r_number_what_they_see() {
    let source = r#"
{%- set ns = namespace(is_first=true, index=0) -%}
{%- for message in messages -%}
    {%- if message['role'] == 'assistant' and message['tool_calls'] is defined -%}
        {%- for tool in message['tool_calls'] -%}
            {%- if ns.is_first -%}{{'<｜tool▁calls▁begin｜>'}}{%- set ns.is_first = false -%}{%- endif -%}
            {{'<｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] + '\n' + '```json' + '\n' + tool['function']['arguments']|tojson + '\n' + '```' + '<｜tool▁call▁end｜>'}}
        {%- endfor -%}
    {%- endif -%}
    {%- if message.role|lower == 'tool' -%}
        {{- '{"tool_call_id": "' ~ ns.index ~ '", "results": {"0": ' ~ message.content|tojson ~ '}}' -}}
        {%- set ns.index = ns.index + 1 -%}
    {%- endif -%}
{%- endfor -%}"#;
    assert_eq!(
        render(source),
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Bern\", \"days\": \
         1.0}\n```<｜tool▁call▁end｜>{\"tool_call_id\": \"0\", \"results\": {\"0\": \"no\"}}{\"tool_call_id\": \"1\", \
         \"results\": {\"0\": \"yes\"}}"
    );
}
