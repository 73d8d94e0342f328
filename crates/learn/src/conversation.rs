//! Where a conversation asks, and what it answers.

use amend_run::records::Turn;

/// A conversation, parted at the assistant's last message: that is the answer, and what stands before it asks for it.
/// What others say after it is part of neither.
#[derive(Debug, Clone, Copy)]
pub struct Conversation<'r> {
    /// The turns that are answered: those before the assistant's last message; all, where the assistant says nothing.
    pub asked: &'r [Turn],
    /// The assistant's last message.
    pub answer: Option<&'r str>,
}

impl<'r> Conversation<'r> {
    /// Parts these turns.
    pub fn of(turns: &'r [Turn]) -> Self {
        match turns.iter().rposition(|turn| turn.role == "assistant") {
            Some(at) => Conversation { asked: &turns[..at], answer: Some(&turns[at].content) },
            None => Conversation { asked: turns, answer: None },
        }
    }

    /// The user's message that is answered; empty where there is none.
    pub fn question(&self) -> &'r str {
        self.asked.iter().rev().find(|turn| turn.role == "user").map_or("", |turn| &turn.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parted(roles: &[&str]) -> (usize, Option<String>, String) {
        let turn = |(i, role): (usize, &&str)| Turn {
            role: (*role).to_owned(),
            content: format!("{role} {i}"),
            fields: amend_run::records::Row::new(),
        };
        let turns: Vec<Turn> = roles.iter().enumerate().map(turn).collect();
        let conversation = Conversation::of(&turns);
        let answer = conversation.answer.map(str::to_owned);
        (conversation.asked.len(), answer, conversation.question().to_owned())
    }

    #[test]
    fn the_last_message_of_the_assistant_is_the_answer() {
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(parted(&["user", "assistant"]), (1, said("assistant 1"), "user 0".into()));
        let longer = ["system", "user", "assistant", "user", "assistant", "user"];
        assert_eq!(parted(&longer), (4, said("assistant 4"), "user 3".into()));
        assert_eq!(parted(&["system", "user"]), (2, None, "user 1".into()));
        assert_eq!(parted(&["assistant"]), (0, said("assistant 0"), String::new()));
    }
}
