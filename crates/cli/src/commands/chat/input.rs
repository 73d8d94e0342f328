//! What a line of a chat asks for.

use amend_run::nearest;

use super::draft::Message;

/// A command of the chat.
struct Named {
    name: &'static str,
    /// Other names that users of other programs know.
    also: &'static [&'static str],
    /// What follows the name.
    argument: &'static str,
    does: &'static str,
}

const COMMANDS: [Named; 7] = [
    Named { name: "/help", also: &["/?"], argument: "", does: "list the commands" },
    Named { name: "/reset", also: &["/clear"], argument: "", does: "start over" },
    Named { name: "/undo", also: &[], argument: "", does: "take back the last question and its answer" },
    Named { name: "/retry", also: &["/regen"], argument: "", does: "answer the last question again" },
    Named {
        name: "/system",
        also: &[],
        argument: " TEXT",
        does: "set the system message and start over; without TEXT remove it",
    },
    Named {
        name: "/save",
        also: &[],
        argument: " FILE",
        does: "write the conversation to a new file, as recipes read it",
    },
    Named { name: "/quit", also: &["/exit", "/bye"], argument: "", does: "leave, as does Ctrl-D" },
];

/// The commands, and what else one can type, a line each.
pub(super) fn help() -> String {
    let row = |what: &str, does: &str| format!("  {what:<14} {does}\n");
    let command = |command: &Named| {
        let also = match command.also {
            [] => String::new(),
            also => format!(" (also {})", also.join(", ")),
        };
        row(&format!("{}{}", command.name, command.argument), &format!("{}{also}", command.does))
    };
    let mut help: String = COMMANDS.iter().map(command).collect();
    help.push_str(&row("… \\", "a line that ends in \\ goes on in the next"));
    help.push_str(&row("\"\"\" … \"\"\"", "as do lines between three quotes; pasted lines stay together"));
    help.push_str(&row("Ctrl-C", "stop the answer, or drop what is typed; twice to leave"));
    help
}

/// The commands that begin with `beginning`, as they are typed.
pub(super) fn completions(beginning: &str) -> Vec<String> {
    let matching = COMMANDS.iter().filter(|command| command.name.starts_with(beginning));
    let typed = |command: &Named| {
        let space = if command.argument.is_empty() { "" } else { " " };
        format!("{}{space}", command.name)
    };
    matching.map(typed).collect()
}

/// What a message asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Nothing,
    Quit,
    Help,
    Reset,
    Undo,
    Retry,
    System(Option<String>),
    /// The file's name.
    Save(Option<String>),
    Unknown {
        command: String,
        /// The command that was probably meant.
        nearest: Option<&'static str>,
    },
    Question(String),
}

impl Input {
    pub(super) fn of(message: &Message) -> Self {
        let text = message.text.trim();
        if message.quoted && !text.is_empty() {
            return Input::Question(text.to_owned());
        }
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let argument = || Some(rest.trim().to_owned()).filter(|text| !text.is_empty());
        if word.is_empty() {
            return Input::Nothing;
        }
        if !is_command(word) {
            return Input::Question(text.to_owned());
        }
        match COMMANDS.iter().find(|command| command.name == word || command.also.contains(&word)) {
            None => {
                let names = COMMANDS.iter().map(|command| command.name);
                Input::Unknown { command: word.to_owned(), nearest: nearest(word, names) }
            }
            Some(command) => match command.name {
                "/reset" => Input::Reset,
                "/undo" => Input::Undo,
                "/retry" => Input::Retry,
                "/system" => Input::System(argument()),
                "/save" => Input::Save(argument()),
                "/quit" => Input::Quit,
                _ => Input::Help,
            },
        }
    }
}

/// Whether a word is written as commands are: `/etc/hosts` and `/*` are not.
fn is_command(word: &str) -> bool {
    let name = word.strip_prefix('/').unwrap_or_default();
    name == "?" || !name.is_empty() && name.chars().all(|c| c.is_alphabetic() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Input {
        Input::of(&Message { text: text.to_owned(), quoted: false, private: false })
    }

    #[test]
    fn lines_are_commands_or_questions() {
        assert_eq!(of("  "), Input::Nothing);
        assert_eq!(of("/system  Be brief. "), Input::System(Some("Be brief.".into())));
        assert_eq!(of("/system"), Input::System(None));
        assert_eq!(of("what is / for?"), Input::Question("what is / for?".into()));
        for text in ["/etc/hosts: what is it for?", "/* a comment */", "// another", "/"] {
            assert_eq!(of(text), Input::Question(text.into()));
        }
        assert_eq!(
            Input::of(&Message { text: "/reset".into(), quoted: true, private: false }),
            Input::Question("/reset".into())
        );
    }

    #[test]
    fn every_command_is_known_completed_and_explained() {
        for Named { name, also, argument, does } in &COMMANDS {
            for typed in std::iter::once(name).chain(*also) {
                assert!(!matches!(of(typed), Input::Unknown { .. } | Input::Question(_)), "{typed}");
                assert!(help().contains(typed));
            }
            assert!(completions(name)[0].starts_with(name) && help().contains(does));
            assert_eq!(argument.is_empty(), !completions(name)[0].ends_with(' '));
        }
        assert!(help().lines().all(|line| line.chars().count() <= 80), "{}", help());
    }

    #[test]
    fn mistyped_commands_have_a_nearest() {
        let nearest_to = |text: &str| match of(text) {
            Input::Unknown { nearest, .. } => nearest,
            other => panic!("{other:?}"),
        };
        assert_eq!(nearest_to("/sytem x"), Some("/system"));
        assert_eq!(nearest_to("/rest"), Some("/reset"));
        assert_eq!(nearest_to("/bananas"), None);
    }
}
