//! What tracing and patching promise, on small models of random weights.
use crate::support::llama as model;
use amend_engine::{Example, Result};
use amend_interpret::{Patch, Place, Question, Restored, Tracing, deviation_of_embeddings, patched, states};

fn question() -> Question {
    Question { ids: vec![3, 17, 8, 41, 22, 9], subject: 1..3, answer: vec![30] }
}

fn tracing(noise: f32) -> Tracing {
    Tracing { noise, draws: 4, window: 1, seed: 7 }
}

#[test]
fn all_states_of_a_layer_make_the_other_run() -> Result<()> {
    let model = model();
    let (one, other) = (Example::text(vec![3, 17, 8, 41, 22, 9]), Example::text(vec![6, 2, 45, 13, 22, 30]));
    let wanted = model.score(std::slice::from_ref(&other), 64)?.remove(0);
    for layer in 0..3 {
        let theirs = states(&model, &other.ids)?;
        let patches: Vec<Patch> = (0..6).map(|position| Patch::residual(&theirs, layer, position)).collect();
        // Scored are the other's tokens, which this run would not predict.
        let mixed = Example { ids: one.ids.clone(), scored: one.scored.clone() };
        let ours = patched(&model, &mixed, &patches)?;
        let same = Example { ids: other.ids.clone(), scored: other.scored.clone() };
        assert_eq!(patched(&model, &same, &patches)?, wanted, "a run's own states change nothing");
        let plain = model.score(std::slice::from_ref(&one), 64)?.remove(0);
        assert_ne!(ours, plain, "layer {layer}");
        // The last target is read by nobody, so its distribution is the other run's to the bit.
        let last = |ids: &[u32], target: u32| Example::answer(ids, &[target]);
        let of = |ids: &[u32], patches: &[Patch]| patched(&model, &last(ids, 11), patches);
        assert_eq!(of(&one.ids, &patches)?, of(&other.ids, &[])?, "layer {layer}");
    }
    Ok(())
}

#[test]
fn without_noise_there_is_nothing_to_restore() -> Result<()> {
    for restored in [Restored::State, Restored::Mlp, Restored::Attention] {
        let trace = tracing(0.0).trace(&model(), &question(), restored)?;
        assert_eq!(trace.clean, trace.corrupted);
        assert_eq!((trace.restored.len(), trace.restored[0].len()), (3, 6));
        assert!(trace.restored.iter().flatten().all(|p| *p == trace.clean));
    }
    Ok(())
}

#[test]
fn behind_the_last_block_the_last_token_is_everything() -> Result<()> {
    let trace = tracing(2.0).trace(&model(), &question(), Restored::State)?;
    assert!((trace.clean / trace.corrupted - 1.0).abs() > 1e-2, "{trace:?}");
    assert_eq!(trace.restored[2][5], trace.clean);
    assert!(trace.restored[2][..5].iter().all(|p| *p == trace.corrupted), "{trace:?}");
    // Before the subject the noise has reached nothing.
    assert!(trace.restored.iter().all(|layer| layer[0] == trace.corrupted));
    assert_ne!(trace.restored[0][2], trace.corrupted);
    Ok(())
}

/// An answer of several tokens counts as a whole.
#[test]
fn the_answer_is_a_product() -> Result<()> {
    let model = model();
    let question = Question { answer: vec![30, 4], ..question() };
    let trace = tracing(2.0).trace(&model, &question, Restored::State)?;
    let whole = model.score(&[Example::answer(&question.ids, &question.answer)], 64)?.remove(0);
    let product = (f64::from(whole[0]) + f64::from(whole[1])).exp();
    assert!((trace.clean / product - 1.0).abs() < 1e-9, "{} {product}", trace.clean);
    assert_eq!(trace.restored[0].len(), 6, "the prompt's tokens alone are restored");
    Ok(())
}

#[test]
fn a_window_over_all_layers_restores_what_all_feed_forwards_add() -> Result<()> {
    let model = model();
    let wide = Tracing { window: 9, ..tracing(2.0) }.trace(&model, &question(), Restored::Mlp)?;
    let narrow = tracing(2.0).trace(&model, &question(), Restored::Mlp)?;
    assert_eq!(wide.restored[0], wide.restored[2], "the window holds every layer wherever it stands");
    assert_ne!(wide.restored[1], narrow.restored[1]);
    Ok(())
}

/// Sequences of a batch do not see each other: more tokens than fit into one give the same.
#[test]
fn draws_are_named_by_their_number() -> Result<()> {
    let model = model();
    let few = tracing(1.0).trace(&model, &question(), Restored::State)?;
    let again = tracing(1.0).trace(&model, &question(), Restored::State)?;
    assert_eq!(few, again);
    let many = Tracing { draws: 1500, ..tracing(1.0) }.trace(&model, &question(), Restored::State)?;
    assert!((many.restored[2][5] / many.clean - 1.0).abs() < 1e-9, "one position at a time");
    assert_ne!(many.corrupted, few.corrupted);
    Ok(())
}

#[test]
fn places_of_a_prompt() {
    let place = |position| Place::of(position, &question());
    let all =
        [Place::Before, Place::FirstOfSubject, Place::LastOfSubject, Place::Next, Place::After, Place::Last];
    assert_eq!((0..6).map(place).collect::<Vec<_>>(), all);
    let at_the_end = Question { ids: vec![1, 2], subject: 1..2, answer: vec![0] };
    assert_eq!(Place::of(1, &at_the_end), Place::LastOfSubject, "one token is its first and its last");
}

#[test]
fn noise_is_measured_in_embeddings() -> Result<()> {
    let mut model = model();
    let before = deviation_of_embeddings(&model, &question().ids)?;
    assert!((before / 0.4 - 1.0).abs() < 0.25, "{before}");
    let table = model.params.find("model.embed_tokens.weight").unwrap();
    model.params.get_mut(table).tensor.f32_mut().iter_mut().for_each(|x| *x *= 2.0);
    assert!((deviation_of_embeddings(&model, &question().ids)? / before - 2.0).abs() < 1e-5);
    Ok(())
}
