//! The chat template of a model, rendered as the engine renders it.
//!
//! Templates are Jinja programs written for Python: string and list methods come from
//! `minijinja_contrib::pycompat`, `raise_exception` and `strftime_now` are what the transformers
//! library offers them. Models without a template get the ChatML of llama.cpp.

use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;
use weir_models::gguf::GgufTokenizer;

use super::Turn;

const NAME: &str = "chat";
/// What llama.cpp takes when the file has no template (`chat.cpp`, `CHATML_TEMPLATE_SRC`).
const CHATML: &str = "{%- for message in messages -%}\n\
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}\n\
    {%- endfor -%}\n\
    {%- if add_generation_prompt -%}\n\
    {{- '<|im_start|>assistant\n' -}}\n\
    {%- endif -%}";
/// Templates are outside input: enough for a thousand turns, an end for a loop that has none.
const FUEL: u64 = 10_000_000;

/// A template and the tokens that it may name.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    programs: Environment<'static>,
    bos: Option<String>,
    eos: Option<String>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'a str,
    content: &'a str,
}

impl ChatTemplate {
    pub(super) fn new(tokenizer: &GgufTokenizer, template: Option<String>) -> Result<Self, Error> {
        let text = |id: Option<u32>| {
            let id = usize::try_from(id?).ok()?;
            tokenizer.tokens.get(id).cloned()
        };
        let mut programs = Environment::new();
        programs.set_trim_blocks(true);
        programs.set_lstrip_blocks(true);
        programs.set_fuel(Some(FUEL));
        programs.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        programs.add_function("raise_exception", raise_exception);
        programs.add_function("strftime_now", strftime_now);
        programs.add_template_owned(NAME, template.unwrap_or_else(|| CHATML.to_owned()))?;
        Ok(Self {
            programs,
            bos: text(tokenizer.bos),
            eos: text(tokenizer.eos),
        })
    }

    /// Text of the token that begins a prompt.
    pub(super) fn bos(&self) -> Option<&str> {
        self.bos.as_deref()
    }

    /// Whether the template takes these roles in this order.
    pub(super) fn takes(&self, roles: &[&'static str]) -> bool {
        let turn = |role: &&'static str| Turn {
            role,
            content: "text",
        };
        self.render(&roles.iter().map(turn).collect::<Vec<_>>())
            .is_ok()
    }

    /// The prompt of a conversation, ready for an answer.
    pub(super) fn render<'a>(&self, turns: &[Turn<'a>]) -> Result<String, Error> {
        let message = |turn: &Turn<'a>| Message {
            role: turn.role,
            content: turn.content,
        };
        let messages: Vec<Message<'a>> = turns.iter().map(message).collect();
        self.programs.get_template(NAME)?.render(context! {
            messages,
            add_generation_prompt => true,
            enable_thinking => true,
            bos_token => self.bos.as_deref().unwrap_or_default(),
            eos_token => self.eos.as_deref().unwrap_or_default(),
        })
    }
}

/// A template refuses a conversation, such as two user turns in a row.
fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// A date of the usual length: templates print the day, and all days take the same few tokens.
fn strftime_now(format: &str) -> String {
    let parts = [
        ("%Y", "2026"),
        ("%m", "01"),
        ("%d", "26"),
        ("%b", "Jan"),
        ("%B", "January"),
        ("%H", "12"),
        ("%M", "00"),
        ("%S", "00"),
        ("%A", "Monday"),
        ("%a", "Mon"),
    ];
    parts
        .iter()
        .fold(format.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::super::Roles;
    use super::*;

    fn template(text: &str) -> ChatTemplate {
        let tokenizer = GgufTokenizer {
            model: "gpt2".to_owned(),
            pre: "default".to_owned(),
            tokens: Vec::new(),
            token_types: Vec::new(),
            merges: Vec::new(),
            bos: None,
            eos: None,
            add_bos: false,
        };
        ChatTemplate::new(&tokenizer, Some(text.to_owned())).unwrap()
    }

    #[test]
    fn a_template_that_refuses_system_messages_and_repeated_roles_is_known_by_it() {
        let strict = template(
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
             {% for message in messages %}\
             {% if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}\
             {{ message.content }}{% endfor %}",
        );
        let expected = Roles {
            system: false,
            user_twice: false,
        };
        assert_eq!(Roles::of(&strict), expected);
        assert_eq!(Roles::of(&template(CHATML)), Roles::ALL);
    }
}
