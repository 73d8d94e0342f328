//! States of one run in another.

use amend_engine::{Example, Result, Taps};
use amend_interpret::{Swap, probabilities, states, swapped};

use crate::support::{llama, models};

const ONE: [u32; 6] = [3, 17, 8, 41, 22, 9];
const OTHER: [u32; 6] = [6, 2, 45, 13, 22, 30];

/// With all of the other run's states behind a layer, the other run's probabilities come out, to the bit.
#[test]
fn all_states_of_a_layer_make_the_other_run() -> Result<()> {
    for model in models() {
        let theirs = states(&model, &OTHER)?;
        let answer = |prompt: &[u32]| Example::answer(prompt, &[11]);
        let wanted = probabilities(&model, &[answer(&OTHER)], &Taps::none())?;
        let all = |layer| Swap { layer, tokens: (0..6).map(|token| (token, token)).collect() };
        let swaps: Vec<Swap> = (0..model.spec().layers).map(all).collect();
        let came = swapped(&model, &answer(&ONE), &theirs, &swaps)?;
        assert!(came.iter().all(|p| *p == wanted[0]), "{came:?} {wanted:?}");
        assert_ne!(probabilities(&model, &[answer(&ONE)], &Taps::none())?, wanted);
    }
    Ok(())
}

/// A swap counts for itself, however many are asked for together, and nothing but its own token is changed by it.
#[test]
fn swaps_do_not_meet() -> Result<()> {
    let model = llama();
    let theirs = states(&model, &OTHER)?;
    let example = Example::answer(&ONE, &[11, 4]);
    let swap = |layer, here, there| Swap { layer, tokens: vec![(here, there)] };
    let swaps = [swap(0, 1, 3), swap(2, 5, 5), swap(2, 4, 4), Swap { layer: 1, tokens: vec![] }];
    let together = swapped(&model, &example, &theirs, &swaps)?;
    for (swap, p) in swaps.iter().zip(&together) {
        assert_eq!(swapped(&model, &example, &theirs, std::slice::from_ref(swap))?, [*p]);
    }
    let plain = probabilities(&model, std::slice::from_ref(&example), &Taps::none())?[0];
    assert!(together[0] != plain && together[1] != plain);
    assert_eq!(together[2], plain, "behind the last block nobody reads another token's state");
    assert_eq!(together[3], plain);
    let many: Vec<Swap> = (0..1500).map(|_| swap(0, 1, 3)).collect();
    assert!(
        swapped(&model, &example, &theirs, &many)?.iter().all(|p| *p == together[0]),
        "over several batches"
    );
    assert!(
        swapped(&model, &example, &theirs, &[swap(3, 0, 0)]).unwrap_err().to_string().contains("no layer 3")
    );
    Ok(())
}

#[test]
fn an_answer_of_several_tokens_is_a_product() -> Result<()> {
    let model = llama();
    let examples = [Example::answer(&ONE, &[11, 4]), Example::answer(&ONE, &[11])];
    let found = probabilities(&model, &examples, &Taps::none())?;
    let scored = model.score(&examples, 64)?;
    for (p, logprobs) in found.iter().zip(scored) {
        let product: f64 = logprobs.iter().map(|&logprob| f64::from(logprob).exp()).product();
        assert!((p / product - 1.0).abs() < 1e-9, "{p} {product}");
    }
    Ok(())
}
