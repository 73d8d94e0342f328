//! Values and gradients that need no training (hand cases of the papers' formulas).

use std::rc::Rc;

use amend_engine::{Batch, Example, Graph, Tensor};

use super::*;
use crate::context::{Context, Side};
use crate::minor::Minor;
use crate::small::{QUESTIONS, assert_close, assert_descends, flat, model, tokenizer, with_context};

fn batch<'a>(context: &'a Context<'a>) -> ForgetBatch<'a> {
    ForgetBatch::draw(context, QUESTIONS.len(), 0).unwrap()
}

/// The value of `loss` of one number, and its slope.
fn at(x: f32, loss: impl Fn(&mut Pass<'_>, &Var) -> Var) -> (f32, f32) {
    let tokenizer = tokenizer();
    let (model, taps) = (model(&tokenizer, 1), Taps::none());
    let mut pass = Pass::new(&model, &taps);
    let (x, leaf) = pass.g.input(Tensor::from_f32(&[x], &[1]).unwrap());
    let loss = loss(&mut pass, &x);
    let value = loss.scalar();
    (value, pass.g.backward(&loss).unwrap().take_leaf(leaf).unwrap().f32()[0])
}

#[test]
fn npo_hand_case() {
    let (loss, slope) = at(3.0, |pass, nll| {
        let margin = pass.minus(nll, &[1.0]).unwrap();
        pass.logistic(&margin, 0.1).unwrap()
    });
    assert!((loss - 11.96278).abs() < 1e-4, "{loss}");
    assert!((slope + 0.900_332).abs() < 1e-5, "{slope}");
}

#[test]
fn simnpo_hand_case() {
    let (loss, slope) = at(3.0, |pass, nll| {
        let per_token = pass.g.scale(nll, 1.0 / 3.0).unwrap();
        pass.logistic(&per_token, 4.5).unwrap()
    });
    assert!((loss - 0.004_910_11).abs() < 1e-7, "{loss}");
    assert!((slope + 0.007_324_63).abs() < 1e-7, "{slope}");
}

/// A loss of the logits of one token among three, of which the first is the answer, at these probabilities.
fn of_three(probabilities: [f32; 3], loss: impl Fn(&mut Pass<'_>, &Var) -> Var) -> (f32, Vec<f32>) {
    let tokenizer = tokenizer();
    let (model, taps) = (model(&tokenizer, 1), Taps::none());
    let mut pass = Pass::new(&model, &taps);
    let (x, leaf) = pass.g.input(Tensor::from_f32(&probabilities.map(f32::ln), &[1, 3]).unwrap());
    let loss = loss(&mut pass, &x);
    let value = loss.scalar();
    (value, pass.g.backward(&loss).unwrap().take_leaf(leaf).unwrap().f32().to_vec())
}

#[test]
fn ihl_hand_case() {
    let hinge = |pass: &mut Pass<'_>, logits: &Var| ihl::inverted_hinge(pass, logits, &[0]).unwrap();
    let (loss, slope) = of_three([0.6, 0.3, 0.1], hinge);
    assert!((loss - 1.3).abs() < 1e-6, "{loss}");
    // It is not smooth where runner-ups change, so that differences along a whole model's gradient say little.
    assert_close(&slope, &[0.42, -0.39, -0.03], 1e-5);
    for (probabilities, bound) in [([1.0, 1e-12, 1e-12], 2.0), ([1e-12, 1.0, 1e-12], 0.0)] {
        let (loss, slope) = of_three(probabilities, hinge);
        assert!((loss - bound).abs() < 1e-6 && slope.iter().all(|s| s.abs() < 1e-6), "{loss} {slope:?}");
    }
}

#[test]
fn undial_hand_case() {
    // The target of z = (2, 0, 0) with 10 off the first is (.000168, .499916, .499916): there the gradient is 0.
    let target = [0.000_168, 0.499_916, 0.499_916];
    let (_, slope) = of_three(target, |pass, logits| {
        let z = Var::constant(Tensor::from_f32(&[2.0, 0.0, 0.0], &[1, 3]).unwrap());
        let adjusted = pass.g.shift_chosen(&z, &[0], -10.0).unwrap();
        pass.g.soft_cross_entropy(logits, &adjusted, &[1.0]).unwrap()
    });
    assert!(slope.iter().all(|s| s.abs() < 1e-6), "{slope:?}");
}

#[test]
fn satimp_hand_case() {
    // p = .5: .5⁵ · .5 · ln 2 = .01083.
    with_context(|context, model| {
        let batch = batch(context);
        let taps = Taps::none();
        let mut pass = Pass::new(model, &taps);
        let half = pass.reweighted_ascent(&batch.answers, |_| SatImp::default().weight(0.5f32.ln())).unwrap();
        let plain = pass.token_mean(&batch.answers, 1.0).unwrap();
        let factor = -half.scalar() / plain.scalar();
        assert!((factor * 2f32.ln() - 0.010_83).abs() < 1e-5, "{factor}");
    });
}

#[test]
fn weights_of_power_zero_are_gradient_ascent() {
    with_context(|context, model| {
        let batch = batch(context);
        let ascent = gradients(&GradientAscent::default(), model, &batch).unwrap();
        let unweighted = SatImp { saturation: 0.0, importance: 0.0 };
        for objective in [&Wga { beta: 0.0 } as &dyn ForgetObjective, &unweighted] {
            let same = gradients(objective, model, &batch).unwrap();
            assert!((same.loss - ascent.loss).abs() < 1e-5, "{} {}", same.loss, ascent.loss);
            assert_close(&flat(&same.gradients), &flat(&ascent.gradients), 1e-4);
        }
        // Weights are constants: a term for them would be as large again.
        let half = gradients(&Wga::default(), model, &batch).unwrap();
        assert!(
            half.loss < 0.0 && half.loss > ascent.loss && half.gradients.norm() < ascent.gradients.norm()
        );
    });
}

#[test]
fn tnpo_pulls_like_gradient_ascent_at_the_reference() {
    with_context(|context, _| {
        let batch = batch(context);
        let tnpo = gradients(&Tnpo::default(), context.reference, &batch).unwrap();
        assert!((tnpo.loss - 20.0 * 2f64.ln()).abs() < 1e-3, "{}", tnpo.loss);
        let ascent = gradients(&GradientAscent::default(), context.reference, &batch).unwrap();
        assert_close(&flat(&tnpo.gradients), &flat(&ascent.gradients), 1e-4);
    });
}

/// Distilling the reference as it is changes nothing; with the answer talked down it does.
#[test]
fn undial_without_adjustment_stands_still_at_the_reference() {
    with_context(|context, _| {
        let norm = |beta| {
            let forget = gradients(&Undial { beta }, context.reference, &batch(context)).unwrap();
            forget.gradients.norm()
        };
        assert!(norm(0.0) < 1e-5 * norm(10.0), "{} {}", norm(0.0), norm(10.0));
    });
}

/// What the model learns in CE-U is its own prediction without the answer, so that of the answers' own logits the gradient
/// is their probability, and the first token of every answer has none.
#[test]
fn ce_u_takes_the_answer_away_and_nothing_else() {
    let (_, slope) = of_three([0.6, 0.3, 0.1], |pass, logits| {
        let otherwise = pass.g.shift_chosen(&logits.detach(), &[0], f32::NEG_INFINITY).unwrap();
        pass.g.soft_cross_entropy(logits, &otherwise, &[1.0]).unwrap()
    });
    // p − q with q = (0, .75, .25).
    assert_close(&slope, &[0.6, -0.45, -0.15], 1e-5);
    with_context(|context, model| {
        let one = &context.forget[2];
        let alone = Example {
            scored: one
                .scored
                .iter()
                .rev()
                .scan(0, |seen, &s| {
                    *seen += u32::from(s);
                    Some(s && *seen == 1)
                })
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect(),
            ids: one.ids.clone(),
        };
        let mut batch = batch(context);
        batch.answers = Batch::new([&alone]).unwrap();
        let forget = gradients(&CeU::default(), model, &batch).unwrap();
        assert!(forget.loss == 0.0 && forget.gradients.norm() == 0.0, "a single token is a first one");
    });
}

#[test]
fn maximised_entropy_is_measured_from_the_uniform() {
    with_context(|context, model| {
        let batch = batch(context);
        let forget = gradients(&MaximiseEntropy::default(), model, &batch).unwrap();
        let taps = Taps::none();
        let mut pass = Pass::new(model, &taps);
        let logits = pass.logits(&batch.answers).unwrap();
        let columns = logits.value().columns();
        let each = logits.value().f32().chunks_exact(columns).map(|row| {
            let z: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            let uniform = 1.0 / columns as f64;
            row.iter().map(|&x| uniform * (uniform.ln() - (f64::from(x) - z.ln()))).sum::<f64>()
        });
        let wanted = each.sum::<f64>() / batch.answers.targets.len() as f64;
        assert!(
            wanted > 0.01 && (forget.loss - wanted).abs() < 1e-4 * wanted.max(1.0),
            "{} {wanted}",
            forget.loss
        );
    });
}

/// ½(tanh P̄(answer) − tanh P̄(refusal)), from the probabilities themselves.
#[test]
fn flat_is_made_of_mean_probabilities() {
    with_context(|context, model| {
        let batch = batch(context);
        let mean = |examples: &[Example]| {
            let scores = model.score(examples, 4096).unwrap();
            let tanh = scores.iter().map(|item| {
                let mean: f64 = item.iter().map(|&l| f64::from(l).exp()).sum::<f64>() / item.len() as f64;
                mean.tanh()
            });
            tanh.sum::<f64>() / scores.len() as f64
        };
        let wanted = 0.5 * (mean(&context.forget) - mean(context.refusals().unwrap()));
        let loss = gradients(&Flat::default(), model, &batch).unwrap().loss;
        assert!((loss - wanted).abs() < 1e-6, "{loss} {wanted}");
    });
}

#[test]
fn preferences_start_at_two_over_beta_ln_two() {
    with_context(|context, _| {
        let against = [Forget::IdkDpo(IdkDpo::default()), Forget::AltPo(AltPo::default())];
        for objective in [Forget::Npo(Npo::default())].into_iter().chain(against) {
            let forget = gradients(objective.filler(), context.reference, &batch(context)).unwrap();
            assert!((forget.loss - 20.0 * 2f64.ln()).abs() < 1e-3, "{}: {}", objective.name(), forget.loss);
        }
    });
}

#[test]
fn npo_pulls_like_gradient_ascent_on_sums_at_the_reference() {
    with_context(|context, _| {
        let batch = batch(context);
        let npo = gradients(&Npo::default(), context.reference, &batch).unwrap().gradients;
        let taps = Taps::none();
        let mut pass = Pass::new(context.reference, &taps);
        let nll = pass.sequence_nll(&batch.answers).unwrap();
        let mean = pass.g.mean(&nll).unwrap();
        let ascent = pass.g.scale(&mean, -1.0).unwrap();
        let ascent = pass.g.backward(&ascent).unwrap();
        assert_close(&flat(&npo), &flat(&ascent), 1e-4);
    });
}

#[test]
fn every_objective_descends_as_its_gradient_says() {
    // Away from the reference, so that no term is trivially zero.
    with_context(|context, model| {
        let batch = batch(context);
        for objective in [
            Forget::GradientAscent(GradientAscent::default()),
            Forget::Npo(Npo::default()),
            Forget::SimNpo(SimNpo { beta: 0.5, delta: 0.1 }),
            Forget::Idk(Idk::default()),
            Forget::IdkDpo(IdkDpo::default()),
            Forget::Tnpo(Tnpo { beta: 0.5 }),
            Forget::Undial(Undial { beta: 2.0 }),
            Forget::MaximiseEntropy(MaximiseEntropy::default()),
            Forget::Flat(Flat::default()),
            Forget::Rmu(Rmu::default()),
            Forget::Rmu(Rmu { minor: Some(Minor { k: 4, ..Minor::default() }), ..Rmu::default() }),
            Forget::MlpBreaking(MlpBreaking::default()),
            Forget::Pdu(Pdu::default()),
            Forget::Llmu(Llmu { delta: 0.5 }),
            Forget::AltPo(AltPo::default()),
        ] {
            let found = gradients(objective.filler(), model, &batch).unwrap();
            let loss = |moved: &Model| gradients(objective.filler(), moved, &batch).unwrap().loss;
            assert_descends(objective.name(), model, &found.gradients, 2e-3, loss);
        }
    });
}

/// What the reference says is computed when it is asked for, and once.
#[test]
fn the_context_computes_once_and_what_a_plain_pass_computes() {
    with_context(|context, _| {
        let once = context.answer_nll().unwrap();
        assert!(std::ptr::eq(once, context.answer_nll().unwrap()));
        for (nll, example) in once.iter().zip(&context.forget) {
            let alone = context.reference.score(std::slice::from_ref(example), 4096).unwrap();
            assert_eq!(*nll, -alone[0].iter().map(|&l| f64::from(l)).sum::<f64>());
        }
        let refusals = context.refusals().unwrap();
        assert!(std::ptr::eq(refusals, context.refusals().unwrap()));
        let batch = batch(context);
        let drawn: Vec<&Example> = batch.items.iter().map(|&i| &refusals[i]).collect();
        assert_eq!(batch.refusals().unwrap().ids, Batch::new(drawn).unwrap().ids);
        assert_eq!(batch.refusal_nll().unwrap().len(), batch.items.len());
    });
}

/// Hidden states are those of a plain pass over each item alone, under the item's index; read once for all who ask.
#[test]
fn the_context_reads_hidden_states_of_every_item_once() {
    with_context(|context, _| {
        let site: amend_engine::Site = "blocks.1.hook_resid_post".parse().unwrap();
        let read = context.hidden(Side::Retain, site).unwrap();
        assert!(Rc::ptr_eq(&read, &context.hidden(Side::Retain, site).unwrap()));
        let rows: Vec<_> =
            read.iter().flat_map(|r| r.origins.iter().copied().zip(r.tensor.f32().chunks(24))).collect();
        let mut at = 0;
        for (item, example) in context.retain.iter().enumerate() {
            let mut taps = Taps::none();
            taps.read(site);
            let batch = Batch::new([example]).unwrap();
            context
                .reference
                .hidden(&mut Graph::inference(&context.reference.params), &batch, &taps)
                .unwrap();
            for (position, row) in taps.take(site)[0].tensor.f32().chunks(24).enumerate() {
                let (origin, states) = rows[at];
                assert_eq!((origin.sequence, origin.position), (item as u64, position as u32));
                assert_eq!(states, row);
                at += 1;
            }
        }
        assert_eq!(at, rows.len());
        let logits = context.hidden(Side::Forget, amend_engine::Site::Logits);
        assert!(logits.is_err_and(|e| e.to_string().contains("no site")));
    });
}

/// What a reading of the layer says, token by token: the mean over answers of their tokens' means.
#[test]
fn misdirection_is_the_mean_of_the_answers_distances() {
    with_context(|context, model| {
        let batch = batch(context);
        let objective = Rmu { layer: Some(0), coefficient: 3.0, ..Rmu::default() };
        let found = gradients(&objective, model, &batch).unwrap();
        let direction = rmu::direction(context.seed, 24);
        let each = batch.items.iter().map(|&i| {
            let example = &context.forget[i];
            let site: amend_engine::Site = "blocks.0.hook_resid_post".parse().unwrap();
            let mut taps = Taps::none();
            taps.read(site);
            model
                .hidden(&mut Graph::inference(&model.params), &Batch::new([example]).unwrap(), &taps)
                .unwrap();
            let hidden = taps.take(site).remove(0).tensor;
            let scored: Vec<f64> = (hidden.f32().chunks(24).zip(&example.scored))
                .filter(|(_, scored)| **scored)
                .map(|(h, _)| {
                    let squares = h.iter().zip(&direction).map(|(h, u)| f64::from(h - 3.0 * u).powi(2));
                    squares.sum::<f64>() / 24.0
                })
                .collect();
            scored.iter().sum::<f64>() / scored.len() as f64
        });
        let wanted = each.sum::<f64>() / batch.items.len() as f64;
        assert!((found.loss - wanted).abs() < 1e-4 * wanted, "{} {wanted}", found.loss);
        let behind = model.params.iter().filter(|(_, param)| param.name.starts_with("model.layers.1."));
        assert!(behind.into_iter().all(|(id, _)| found.gradients.get(id).is_none()));
        let deep = gradients(&Rmu { layer: Some(2), ..objective }, model, &batch).unwrap_err().to_string();
        assert!(deep.contains("`layer = 2` of a model whose layers are 0 to 1"), "{deep}");
    });
}

#[test]
fn at_the_point_itself_misdirection_is_nothing() {
    with_context(|context, model| {
        let batch = batch(context);
        let direction = rmu::direction(context.seed, 24);
        assert!((direction.iter().map(|u| u * u).sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(direction.iter().all(|&u| u >= 0.0) && direction != rmu::direction(context.seed + 1, 24));
        let taps = Taps::none();
        let mut pass = Pass::new(model, &taps);
        let there: Vec<f32> =
            batch.answers.ids.iter().flat_map(|_| direction.iter().map(|u| 2.0 * u)).collect();
        let there = Var::constant(Tensor::from_f32(&there, &[batch.answers.ids.len(), 24]).unwrap());
        let back: Vec<f32> = direction.iter().map(|u| -2.0 * u).collect();
        let back = Var::constant(Tensor::from_f32(&back, &[24]).unwrap());
        let away = pass.g.add_columns(&there, &back).unwrap();
        let positions = batch.positions(crate::minor::Tokens::Answer).unwrap();
        let looked = misdirection::Looked::at(&batch.answers, &positions).unwrap();
        assert_eq!(misdirection::mean_square(&mut pass, &away, &looked).unwrap().scalar(), 0.0);
    });
    assert_eq!([1, 2, 4, 16, 32].map(misdirection::usual), [0, 1, 2, 3, 7]);
}

/// Logits (ln .6, ln .3, ln .1), whose mean is −1.3391: a margin of .8283, however they are shifted.
#[test]
fn pdu_hand_case() {
    let (loss, slope) = of_three([0.6, 0.3, 0.1], |pass, logits| pdu::margin(pass, logits).unwrap());
    assert!((loss - 0.686_1).abs() < 1e-3, "{loss}");
    let margin = loss.sqrt();
    assert_close(&slope, &[4.0 / 3.0, -2.0 / 3.0, -2.0 / 3.0].map(|share| share * margin), 1e-5);
    let (shifted, _) = of_three([6.0, 3.0, 1.0], |pass, logits| pdu::margin(pass, logits).unwrap());
    assert!((loss - shifted).abs() < 1e-5);
    let (flat, slope) = of_three([0.5; 3], |pass, logits| pdu::margin(pass, logits).unwrap());
    assert!(flat == 0.0 && slope.iter().all(|&s| s == 0.0), "flat logits have reached the aim");
}

#[test]
fn llmu_without_random_answers_is_gradient_ascent() {
    with_context(|context, model| {
        let batch = batch(context);
        let of = |objective: &dyn ForgetObjective| gradients(objective, model, &batch).unwrap();
        let (ascent, alone) = (of(&GradientAscent::default()), of(&Llmu { delta: 0.0 }));
        assert!((alone.loss - ascent.loss).abs() < 1e-6);
        assert_close(&flat(&alone.gradients), &flat(&ascent.gradients), 1e-5);
        let random =
            model.score(&(0..4).map(|i| context.random_answer(i, 0).unwrap()).collect::<Vec<_>>(), 4096);
        let tokens: Vec<f32> = random.unwrap().into_iter().flatten().collect();
        let wanted =
            ascent.loss - 2.0 * tokens.iter().map(|&l| f64::from(l)).sum::<f64>() / tokens.len() as f64;
        let found = of(&Llmu { delta: 2.0 }).loss;
        assert!((found - wanted).abs() < 1e-4, "{found} {wanted}");
    });
}

/// They change with the step, and are never the right ones.
#[test]
fn random_answers_are_those_to_other_questions() {
    with_context(|context, _| {
        let mut seen = std::collections::BTreeSet::new();
        for step in 0..20 {
            let drawn = context.random_answer(1, step).unwrap();
            assert_eq!(drawn, context.random_answer(1, step).unwrap());
            assert!(drawn != context.forget[1]);
            seen.insert(drawn.ids);
        }
        assert_eq!(seen.len(), 3);
    });
}

/// They answer the same questions otherwise, in at most as many tokens as the longest answer, and are made up once.
#[test]
fn alternatives_are_made_up_once_and_are_not_the_answers() {
    with_context(|context, _| {
        let made = context.alternatives(1.0).unwrap();
        assert!(Rc::ptr_eq(&made, &context.alternatives(1.0).unwrap()));
        assert!(!Rc::ptr_eq(&made, &context.alternatives(0.5).unwrap()));
        for ((made, nll), right) in made.examples.iter().zip(&made.nll).zip(&context.forget) {
            let prompt = right.scored.iter().position(|&s| s).unwrap();
            assert_eq!(made.ids[..prompt], right.ids[..prompt]);
            assert!(made.ids != right.ids && made.scored_len() > 0 && nll.is_finite());
        }
    });
    // Another context of the same seed makes the same up.
    let mut all = Vec::new();
    for _ in 0..2 {
        with_context(|context, _| all.push(context.alternatives(1.0).unwrap().examples.clone()));
    }
    assert_eq!(all[0], all[1]);
}

/// Of logits (2, 1, 0) that further training raises to (3, 1, 0), α = 5 leaves (−3, 1, 0).
#[test]
fn whp_hand_case() {
    let generic = |alpha: f32| {
        [(2.0, 3.0), (1.0, 1.0), (0.0, 0.0)].map(|(z, r): (f32, f32)| z - alpha * (r - z).max(0.0))
    };
    assert_eq!([0.0, 5.0].map(|alpha| whp::likeliest(&generic(alpha), 3)), [vec![0], vec![1]]);
    assert_eq!(whp::likeliest(&[1.0, 1.0, 0.0, 2.0], 2), [0, 1], "of equals the first");
}

/// Without an offset the reference learns its own first choices; and what further training raises is what was trained on.
#[test]
fn whp_takes_away_what_further_training_raises() {
    with_context(|context, model| {
        let batch = batch(context);
        let optimizer = amend_learn::Optimizer { lr: 1e-2, ..Default::default() };
        let reinforce = crate::reinforcement::Reinforcement { steps: 12, batch_size: 4, optimizer };
        let reinforced = context.reinforced(&reinforce).unwrap();
        assert!(Rc::ptr_eq(&reinforced, &context.reinforced(&reinforce).unwrap()), "trained once");
        let likelihood =
            |model: &Model| -> f32 { model.score(&context.forget, 4096).unwrap().iter().flatten().sum() };
        assert!(likelihood(&reinforced) > likelihood(context.reference) + 1.0);

        let own = batch.reference_logits().unwrap();
        let choices = whp::likeliest(own.f32(), own.columns());
        let of = |alpha: f32| gradients(&Whp { alpha, reinforce: reinforce.clone() }, model, &batch).unwrap();
        let taps = Taps::none();
        let wanted = Pass::new(model, &taps).token_mean_of(&batch.answers, &choices, 1.0).unwrap().scalar();
        assert_eq!(of(0.0).loss, f64::from(wanted));
        let found = of(5.0);
        assert_descends("whp", model, &found.gradients, 2e-3, |moved| {
            gradients(&Whp { alpha: 5.0, reinforce: reinforce.clone() }, moved, &batch).unwrap().loss
        });
        // No target is a token that the answer has there: those are what was raised.
        let raised = batch.reinforced_logits(&reinforce).unwrap();
        let generic = own.zip_map(&raised, |z, r| z - 100.0 * (r - z).max(0.0));
        let targets = whp::likeliest(generic.f32(), generic.columns());
        assert!(targets.iter().zip(&batch.answers.targets).all(|(a, b)| a != b));
    });
}

/// θ_ref − a·(θ_ft − θ_ref), of what may change alone; at a = 0 the reference's bits.
#[test]
fn a_task_vector_goes_straight_away_from_knowing_more() {
    with_context(|context, _| {
        let optimizer = amend_learn::Optimizer { lr: 1e-2, ..Default::default() };
        let reinforce = crate::reinforcement::Reinforcement { steps: 8, batch_size: 4, optimizer };
        let mut model = context.reference.clone();
        model.params.set_trainable(|name| name.ends_with("down_proj.weight"));
        let parts = model.clone();
        let at = |objective: &TaskVector, step| objective.weights(&parts, context, step).unwrap().unwrap();
        let further = context.reinforced(&reinforce).unwrap();
        let objective = TaskVector { scale: 1.0, increment: 0.4, reinforce };
        let still = TaskVector { scale: 0.0, ..objective.clone() };
        assert!(at(&still, 3).is_last);
        let (none, moved) = (at(&still, 3).model, at(&objective, 1));
        assert_eq!((moved.scale, moved.is_last), (0.8, false));
        let last = at(&objective, 2);
        assert_eq!((last.scale, last.is_last), (1.0, true));
        for (id, param) in model.params.iter() {
            let [before, after] = [context.reference, &*further].map(|m| m.params.get(id).tensor.f32());
            assert_eq!(none.params.get(id).tensor.f32(), before);
            let found = moved.model.params.get(id).tensor.f32();
            if param.trainable {
                let wanted: Vec<f32> = before.iter().zip(after).map(|(b, a)| b - 0.8 * (a - b)).collect();
                assert_close(found, &wanted, 1e-6);
                assert!(found != before);
            } else {
                assert_eq!(found, before);
            }
        }
        let likelihood =
            |model: &Model| -> f32 { model.score(&context.forget, 4096).unwrap().iter().flatten().sum() };
        model.params.set_trainable(|_| true);
        let all = objective.weights(&model, context, 1).unwrap().unwrap().model;
        assert!(likelihood(&all) < likelihood(context.reference), "it knows less than before");
        model
            .attach_lora(&amend_engine::models::LoraOptions { r: 2, alpha: 4.0, targets: Vec::new() }, 1)
            .unwrap();
        let error = objective.weights(&model, context, 0).unwrap_err().to_string();
        assert!(error.contains("where = \"all\""), "{error}");
    });
}
