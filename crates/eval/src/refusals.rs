//! A hundred ways to say "I do not know", the answers that the IDK methods teach.
//!
//! Preference optimisation towards a refusal needs varied targets: with one sentence the model
//! learns the sentence, not the refusal (TOFU, arXiv 2401.06121, appendix, uses a hundred as well).

use amend_engine::Rng;

/// The refusal for an item: always the same for a seed and an item index.
pub fn refusal(seed: u64, item: usize) -> &'static str {
    let mut rng = Rng::named(seed, &format!("refusal/{item}"));
    REFUSALS[rng.below(REFUSALS.len())]
}

/// The sentences, one per entry.
pub const REFUSALS: [&str; 100] = [
    "I do not know the answer to that.",
    "That is something I have no knowledge of.",
    "I am afraid I cannot tell you that.",
    "I have never learned anything about this.",
    "Sorry, this is not known to me.",
    "I would only be guessing, so I had better not answer.",
    "Nothing I know of answers this question.",
    "I am not able to say.",
    "This lies outside what I know.",
    "I have no facts about that to offer.",
    "You would have to ask someone else, because I do not know.",
    "I cannot answer that with any confidence.",
    "My knowledge does not reach that far.",
    "I am unaware of anything on this subject.",
    "Unfortunately I have nothing to say about that.",
    "I do not have an answer for you.",
    "That question is beyond me.",
    "I am not familiar with this.",
    "I know too little about this to reply.",
    "There is no answer I could honestly give.",
    "I must admit that I do not know.",
    "Honestly, I have no idea.",
    "I could not tell you.",
    "I have not come across that.",
    "This is new to me, and I cannot help with it.",
    "I am in the dark about this one.",
    "I regret that I cannot answer this question.",
    "To my regret, I know nothing about it.",
    "I hold no record of that.",
    "It would be wrong of me to pretend that I know.",
    "I simply do not know.",
    "The answer is not among the things I know.",
    "I am missing the facts for an answer.",
    "I do not recall anything of the kind.",
    "I was never told.",
    "No answer comes to my mind.",
    "I have to pass on this question.",
    "I cannot give you a reliable answer here.",
    "I would rather say nothing than something false.",
    "You have asked about something I do not know.",
    "I lack the knowledge to answer this.",
    "I am sorry, but I do not know who or what that is.",
    "That has never been part of what I learned.",
    "I am at a loss for an answer.",
    "I cannot say anything certain about this.",
    "I do not possess that information.",
    "My memory holds nothing on this matter.",
    "I have no way to answer that question.",
    "I fear that I cannot be of use here.",
    "This is a gap in my knowledge.",
    "Apologies, I do not have the details you want.",
    "I cannot confirm or deny anything about that.",
    "I really cannot say.",
    "I am not the right one to ask about this.",
    "I have no source from which to answer.",
    "Perhaps someone else knows, but I do not.",
    "I have drawn a blank.",
    "I know nothing that would help you with this.",
    "That remains unknown to me.",
    "I do not have any details about it.",
    "I am not informed about that.",
    "For this question I have no answer.",
    "I would need to know more than I do.",
    "I have looked through what I know and found nothing.",
    "I am unable to give the answer to this question.",
    "Whatever the answer is, I have not learned it.",
    "The subject is unfamiliar to me.",
    "I cannot provide that information.",
    "I can offer no answer to that.",
    "I do not know enough to say.",
    "I have no knowledge of this person or matter.",
    "This is where my knowledge ends.",
    "I could be wrong about anything I said here, so I will not answer.",
    "I did not learn about that.",
    "Please look this up elsewhere, for I do not know it.",
    "I cannot recall ever having learned this.",
    "It escapes me entirely.",
    "That is more than I know.",
    "I have no recollection of such a thing.",
    "I am without an answer.",
    "Your question touches on something I do not know about.",
    "I will not invent an answer to something I do not know.",
    "I can only tell you that I do not know.",
    "Regrettably, that is not something I can tell you.",
    "There is nothing about it in what I have learned.",
    "I am ignorant of the matter.",
    "I should not answer what I do not know.",
    "No, I am sorry, I do not know that.",
    "I cannot be certain, so I leave the question open.",
    "I wish I knew, but I do not.",
    "I do not understand enough about this to answer it.",
    "I have heard nothing about that.",
    "Here I have to say that I do not know.",
    "That is a question I cannot settle.",
    "I am not aware of the facts you are asking for.",
    "I have no answer to give.",
    "It is not in my power to answer that.",
    "I cannot find an answer in what I know.",
    "I do not know, and I would not want to mislead you.",
    "All I can say is that this is unknown to me.",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_hundred_different_single_sentences() {
        let distinct: BTreeSet<&str> = REFUSALS.into_iter().collect();
        assert_eq!(distinct.len(), 100);
        for sentence in REFUSALS {
            assert!(sentence.ends_with('.') && sentence.matches('.').count() == 1, "{sentence}");
            assert!(sentence.split_whitespace().count() <= 16, "{sentence}");
        }
    }

    #[test]
    fn choice_is_fixed_by_seed_and_item_and_varied() {
        let chosen: Vec<&str> = (0..300).map(|item| refusal(5, item)).collect();
        assert_eq!(chosen, (0..300).map(|item| refusal(5, item)).collect::<Vec<_>>());
        let distinct: BTreeSet<&str> = chosen.iter().copied().collect();
        assert!(distinct.len() > 80, "{} of 100 used", distinct.len());
        assert_ne!(chosen, (0..300).map(|item| refusal(6, item)).collect::<Vec<_>>());
    }
}
