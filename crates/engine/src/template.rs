//! From a conversation to the text the model was trained to go on from.

use std::io;

use jarvis_domain::Clock;
use jarvis_protocol::ollama::Message;
use minijinja::{
    Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig, value::Serde,
};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::error::EngineError;

/// For models that bring no template: the texts, one after the other.
const PLAIN: &str = "{% for message in messages %}{{ message.content }}{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}";
/// Instructions a template may run, far beyond any real one, so that a hostile file cannot hang a request.
const FUEL: u64 = 5_000_000;

/// Most text a template may write, bytes: more than any window holds.
const MOST_TEXT: usize = 4 << 20;

/// A model's chat template, compiled.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Compiles a Jinja template; `None` takes the plain one. `bos` and `eos` are the texts of the special
    /// tokens that templates refer to.
    ///
    /// # Errors
    /// Not a valid Jinja template.
    pub(crate) fn new(
        source: Option<&str>,
        bos: String,
        eos: String,
        clock: Clock,
    ) -> Result<Self, EngineError> {
        let mut environment = Environment::new();
        // As the library that these templates are written for has it.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", move |format: String| {
            strftime(&clock, &format)
        });
        environment
            .add_template_owned("chat", source.unwrap_or(PLAIN).to_owned())
            .map_err(|error| EngineError::Template(error.to_string()))?;
        Ok(Self {
            environment,
            bos,
            eos,
        })
    }

    /// The conversation with the assistant's turn open at its end.
    ///
    /// # Errors
    /// What the template itself complains about, for example roles that do not alternate.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        think: Option<bool>,
    ) -> Result<String, EngineError> {
        let think = think.map_or(Value::UNDEFINED, Value::from);
        self.environment
            .get_template("chat")
            .and_then(|template| {
                let mut out = Bounded(Vec::new());
                let written = template.render_captured_to(
                    context! {
                        messages => Value::from(Serde(messages)),
                        enable_thinking => think,
                        add_generation_prompt => true,
                        bos_token => self.bos.as_str(),
                        eos_token => self.eos.as_str(),
                    },
                    &mut out,
                );
                if let Err(error) = written {
                    return Err(match error.kind() {
                        ErrorKind::WriteFailure => too_long(),
                        _ => error,
                    });
                }
                String::from_utf8(out.0).map_err(|_| too_long())
            })
            .map_err(|error| EngineError::Template(reason(&error)))
    }
}

fn too_long() -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        "the conversation becomes too long a text: at most 4 MiB",
    )
}

/// Takes text up to [`MOST_TEXT`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_TEXT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn reason(error: &Error) -> String {
    error
        .detail()
        .map_or_else(|| error.to_string(), ToOwned::to_owned)
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime(clock: &Clock, format: &str) -> Result<String, Error> {
    let invalid = |error: jiff::Error| Error::new(ErrorKind::InvalidOperation, error.to_string());
    let now = jiff::Timestamp::from_microsecond(clock.now().micros())
        .map_err(invalid)?
        .to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(format, &now).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jarvis_domain::Timestamp;
    use jarvis_protocol::ollama::Role;

    fn render(source: Option<&str>, messages: &[Message]) -> Result<String, EngineError> {
        let clock = Clock::manual(Timestamp::from_micros(1_795_343_265_000_000));
        ChatTemplate::new(source, "<s>".into(), "</s>".into(), clock)?.render(messages, None)
    }

    #[test]
    fn a_template_in_the_style_of_the_field() {
        let source = "{{ bos_token }}{% for message in messages %}\n  {%- if loop.first and message['role'] != 'system' -%}\nSYS {{ strftime_now('%d %b %Y') }}|{% endif %}\n{{ message['role'].upper() }}:{{ message['content'] | trim }}{{ '|' }}{% endfor %}{% if add_generation_prompt %}A:{% endif %}{% if tools is defined and tools %}T{% endif %}";
        let out = render(Some(source), &[Message::new(Role::User, " hi ")]).unwrap();
        assert_eq!(out, "<s>SYS 22 Nov 2026|USER:hi|A:");
    }

    #[test]
    fn a_complaint_is_passed_on() {
        let error = render(Some("{{ raise_exception('roles must alternate') }}"), &[]).unwrap_err();
        assert_eq!(error.to_string(), "chat template: roles must alternate");
        assert!(render(Some("{% for %}"), &[]).is_err());
    }

    #[test]
    fn an_endless_template_is_stopped() {
        let source =
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        assert!(render(Some(source), &[]).is_err());
    }

    #[test]
    fn a_template_that_writes_without_measure_is_stopped() {
        let source = "{% for a in range(9999) %}{{ messages[0].content }}{% endfor %}";
        let error =
            render(Some(source), &[Message::new(Role::User, "x".repeat(1000))]).unwrap_err();
        assert!(error.to_string().contains("4 MiB"), "{error}");
    }

    #[test]
    fn without_a_template_the_texts_follow_each_other() {
        let messages = [
            Message::new(Role::System, "a"),
            Message::new(Role::User, "b"),
        ];
        assert_eq!(render(None, &messages).unwrap(), "a\nb");
    }
}
