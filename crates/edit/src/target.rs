//! What a model would have to hold at the subject to say something else: the optimised target (v* in ROME, z in MEMIT).

use amend_engine::kernels::{AdamWStep, adamw};
use amend_engine::{Action, Batch, Graph, LeafId, Model, Result, Site, Taps, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reading::{at_subject, means_at};
use crate::request::Request;

/// How the target is looked for: Adam on a vector that is added at the subject's last token, behind every context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TargetSearch {
    /// Steps at most.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// Learning rate.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub lr: f32,
    /// Weight of KL(before ‖ after) of what follows `SUBJECT is a`, in nats.
    #[schemars(range(min = 0.0))]
    pub kl: f32,
    /// Weight of ‖δ‖/‖v₀‖².
    #[schemars(range(min = 0.0))]
    pub decay: f32,
    /// Longest δ, as a multiple of ‖v₀‖; it is scaled back to that after every step.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub radius: f32,
    /// The loss at which it is good enough, in nats.
    #[schemars(range(min = 0.0))]
    pub enough: f32,
}

impl Default for TargetSearch {
    fn default() -> Self {
        TargetSearch { steps: 25, lr: 0.5, kl: 0.0625, decay: 1e-3, radius: 4.0, enough: 0.05 }
    }
}

/// A target that was found.
#[derive(Debug, Clone)]
pub struct Target {
    /// What was there: v₀, the mean over contexts, `[d]`.
    pub start: Vec<f32>,
    /// What has to be added to it: δ, `[d]`.
    pub shift: Vec<f32>,
    /// The new target's loss with it, in nats per token: the mean over contexts.
    pub nll: f64,
    /// Steps taken.
    pub steps: u64,
}

impl TargetSearch {
    /// Looks for the target of one request at a site [T, d] of the residual stream or of what is added to it.
    ///
    /// # Errors
    /// Where the model cannot read the request, or the loss is no number.
    pub fn find(&self, model: &Model, site: Site, request: &Request) -> Result<Target> {
        let start = means_at(model, site, &[request])?.remove(0);
        let length = norm(&start);
        let mut frozen = model.clone();
        // Nothing but δ learns.
        frozen.params.set_trainable(|_| false);
        let search = Search::new(&frozen, site, request)?;
        let (mut shift, mut m, mut v) =
            (vec![0.0; start.len()], vec![0.0; start.len()], vec![0.0; start.len()]);
        let mut steps = 0;
        loop {
            let (nll, kl, mut gradient) = search.look(&shift, self.kl)?;
            let decay = self.decay / (length * length);
            let loss = nll + f64::from(self.kl) * kl + f64::from(decay * norm(&shift));
            if steps == self.steps || loss < f64::from(self.enough) {
                return Ok(Target { start, shift, nll, steps });
            }
            let own = norm(&shift);
            if own > 0.0 {
                gradient.iter_mut().zip(&shift).for_each(|(g, x)| *g += decay * x / own);
            }
            steps += 1;
            adamw(&mut shift, &gradient, &mut m, &mut v, &self.step(steps));
            let over = norm(&shift) / (self.radius * length);
            if over > 1.0 {
                shift.iter_mut().for_each(|x| *x /= over);
            }
        }
    }

    fn step(&self, step: u64) -> AdamWStep {
        AdamWStep {
            lr: self.lr,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            step,
            grad_scale: 1.0,
        }
    }
}

/// One request in the form in which it is looked at again and again.
struct Search<'a> {
    model: &'a Model,
    site: Site,
    request: &'a Request,
    batch: Batch,
    /// Weight of every scored token: the mean over tokens, then over contexts.
    weights: Vec<f32>,
    /// The row that predicts what follows the essence prompt.
    essence: usize,
    /// The final hidden state there, before anything is added.
    before: Tensor,
}

impl<'a> Search<'a> {
    fn new(model: &'a Model, site: Site, request: &'a Request) -> Result<Self> {
        let contexts = request.contexts.iter().map(|placed| &placed.example);
        let batch = Batch::new(contexts.chain([&request.essence.example]))?;
        let lengths = batch.scored_lengths();
        let contexts = request.contexts.len();
        let weight = |&sequence: &usize| 1.0 / (contexts * lengths[sequence]) as f32;
        let weights = batch.sequence.iter().map(weight).collect();
        let essence = batch.layout.sequences[contexts].end - 1;
        let taps = Taps::none();
        let mut g = Graph::inference(&model.params);
        let hidden = model.hidden(&mut g, &batch, &taps)?;
        let before = g.gather_rows(&hidden, &[essence])?.value().clone();
        Ok(Search { model, site, request, batch, weights, essence, before })
    }

    /// The new target's mean loss, the divergence behind the essence prompt, and the gradient of the former and `kl` times
    /// the latter with respect to what is added.
    fn look(&self, shift: &[f32], kl: f32) -> Result<(f64, f64, Vec<f32>)> {
        let shift = Tensor::from_f32(shift, &[1, shift.len()])?;
        let leaf = LeafId::fresh();
        let mut taps = Taps::none();
        let placed = self.request.contexts.iter().chain([&self.request.essence]);
        for (index, placed) in placed.enumerate() {
            let here = at_subject(index, placed.subject);
            taps.add(self.site, here.clone(), Action::Add(shift.clone()));
            taps.add(self.site, here, Action::Leaf(leaf));
        }
        let mut g = Graph::recording(&self.model.params);
        let (head, vocabulary) = (self.model.head(), &self.model.params.get(self.model.head().weight).tensor);
        let hidden = self.model.hidden(&mut g, &self.batch, &taps)?;
        let rows = g.gather_rows(&hidden, &self.batch.rows)?;
        let nll = g.cross_entropy(&rows, head, &self.batch.targets, &self.weights)?;
        let row = g.gather_rows(&hidden, &[self.essence])?;
        let divergence = g.divergence_from(&row, head, &self.before, (vocabulary, head.softcap))?;
        let divergence = g.sum(&divergence)?;
        let loss = g.add_scaled(&nll, &divergence, kl)?;
        let values = (f64::from(nll.scalar()), f64::from(divergence.scalar()));
        let gradients = g.backward(&loss)?;
        let mut sum = vec![0.0f32; shift.len()];
        // Every place that it was added at has a share.
        for part in gradients.leaves(leaf) {
            sum.iter_mut().zip(part.f32()).for_each(|(sum, x)| *sum += x);
        }
        Ok((values.0, values.1, sum))
    }
}

/// Euclidean length, summed in order.
pub(crate) fn norm(x: &[f32]) -> f32 {
    x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32
}

#[cfg(test)]
mod tests {
    use amend_engine::Example;
    use amend_engine::taps::BlockSite;
    use serde_json::json;

    use super::*;
    use crate::request::Placed;

    fn model() -> Model {
        let config = json!({
            "model_type": "llama", "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": 20, "vocab_size": 30, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "initializer_range": 0.4,
        });
        Model::random(config.as_object().unwrap().clone(), 5).unwrap()
    }

    fn request() -> Request {
        let placed = |prompt: &[u32], subject| Placed { example: Example::answer(prompt, &[17, 4]), subject };
        Request {
            name: "a".into(),
            contexts: vec![placed(&[1, 5, 6], 2), placed(&[1, 9, 5, 6], 3)],
            essence: Placed { example: Example::answer(&[1, 5, 6, 11], &[]), subject: 2 },
        }
    }

    #[test]
    fn gradients_agree_with_differences() {
        let (model, request) = (model(), request());
        for site in [Site::Block(0, BlockSite::MlpOut), Site::Block(0, BlockSite::ResidPost)] {
            let search = Search::new(&model, site, &request).unwrap();
            let shift: Vec<f32> = (0..12).map(|i| (i as f32 * 0.7).sin() * 0.3).collect();
            let (nll, kl, gradient) = search.look(&shift, 2.0).unwrap();
            assert!(nll > 0.0 && kl > 0.0);
            for i in [0, 5, 11] {
                let at = |step: f32| {
                    let mut shift = shift.clone();
                    shift[i] += step;
                    let (nll, kl, _) = search.look(&shift, 2.0).unwrap();
                    nll + 2.0 * kl
                };
                let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!(
                    (difference - f64::from(gradient[i])).abs() < 3e-3 * (1.0 + difference.abs()),
                    "{site} {i}"
                );
            }
        }
    }

    #[test]
    fn nothing_added_is_nothing_changed() {
        let (model, request) = (model(), request());
        let search = Search::new(&model, Site::Block(0, BlockSite::MlpOut), &request).unwrap();
        let (nll, kl, _) = search.look(&[0.0; 12], 1.0).unwrap();
        assert!(kl.abs() < 1e-6, "{kl}");
        let examples: Vec<Example> = request.contexts.iter().map(|placed| placed.example.clone()).collect();
        let scored = model.score(&examples, 64).unwrap();
        let mean = scored.iter().map(|s| -f64::from(s[0] + s[1]) / 2.0).sum::<f64>() / 2.0;
        assert!((nll - mean).abs() < 1e-5);
    }

    #[test]
    fn the_target_stays_within_its_radius_and_is_found() {
        let (model, request) = (model(), request());
        let site = Site::Block(0, BlockSite::MlpOut);
        let tight = TargetSearch { radius: 0.5, steps: 10, ..TargetSearch::default() };
        let target = tight.find(&model, site, &request).unwrap();
        assert!(norm(&target.shift) <= 0.5 * norm(&target.start) * 1.0001);
        assert_eq!(target.steps, 10);
        let wide = TargetSearch { radius: 50.0, steps: 200, lr: 0.2, kl: 0.0, ..TargetSearch::default() };
        let found = wide.find(&model, site, &request).unwrap();
        assert!(found.nll < target.nll - 0.5, "{} {}", found.nll, target.nll);
        let held = TargetSearch { kl: 100.0, enough: 0.0, steps: 60, ..wide.clone() }
            .find(&model, site, &request)
            .unwrap();
        let free =
            TargetSearch { kl: 0.0, enough: 0.0, steps: 60, ..wide }.find(&model, site, &request).unwrap();
        assert!(held.nll > free.nll, "a weight on what stays costs of what changes");
    }
}
