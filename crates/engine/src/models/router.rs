//! Losses that keep routers healthy.

use super::Model;
use crate::tape::{Graph, Var};
use crate::{Error, Result};

/// What routers cost beside the language-modelling loss: scalars with gradients.
#[derive(Debug, Clone)]
pub struct RouterLosses {
    /// `E · Σ_e f_e · P_e` (Switch Transformer, arXiv 2101.03961, equations 4 to 6) with f_e the number of
    /// choices of expert e per token and P_e its mean probability, both over the tokens of all layers. It
    /// is k, the number of experts per token, where the load is even, and E where k experts get everything.
    pub load_balancing: Var,
    /// Mean over tokens and layers of `(ln Σ_e exp logit_e)²` (ST-MoE, arXiv 2202.08906, equation 5): small
    /// where scores stay small.
    pub z: Var,
}

impl Model {
    /// The losses of every router that has run in this graph, whatever their coefficients; `None` where
    /// no router has: in a dense model, or in a graph that does not keep what routers do
    /// ([`Graph::keep_routings`]).
    pub fn router_losses(&self, g: &mut Graph<'_>) -> Result<Option<RouterLosses>> {
        let routings = g.routings().to_vec();
        let tokens: usize = routings.iter().map(|r| r.dispatch.tokens()).sum();
        if tokens == 0 {
            return Ok(None);
        }
        let share = 1.0 / tokens as f32;
        let experts = routings[0].dispatch.experts();
        let mut chosen = vec![0usize; experts];
        for routing in &routings {
            routing.dispatch.chosen().iter().for_each(|&e| chosen[e as usize] += 1);
        }
        // The counts have no gradient, so the loss is a sum of probabilities with constant weights.
        let per_expert: Vec<f32> = chosen.iter().map(|&n| (experts * n) as f32 * share * share).collect();
        let (mut balance, mut z) = (None, None);
        for routing in &routings {
            let probs = g.softmax(&routing.logits)?;
            let of_layer = g.weighted_sum(&probs, &per_expert.repeat(routing.dispatch.tokens()))?;
            balance = Some(sum(g, balance, of_layer)?);
            let log_sum = g.log_sum_exp(&routing.logits)?;
            let square = g.mul(&log_sum, &log_sum)?;
            let of_layer = g.weighted_sum(&square, &vec![share; routing.dispatch.tokens()])?;
            z = Some(sum(g, z, of_layer)?);
        }
        Ok(balance.zip(z).map(|(load_balancing, z)| RouterLosses { load_balancing, z }))
    }

    /// `loss + share · (balance · load-balancing + z · z-loss)` with the model's coefficients: what
    /// training descends. The same value where both coefficients are 0.
    ///
    /// `share` is the part of the effective batch that this graph has seen. The load-balancing loss is
    /// taken per graph, as on one device of many; it is not linear in the batch.
    pub fn with_router_losses(&self, g: &mut Graph<'_>, loss: Var, share: f32) -> Result<Var> {
        let Some((balance, z)) =
            self.spec().experts.as_ref().map(|e| (e.balance_coefficient, e.z_coefficient))
        else {
            return Ok(loss);
        };
        if balance == 0.0 && z == 0.0 {
            return Ok(loss);
        }
        let Some(losses) = self.router_losses(g)? else { return Ok(loss) };
        let mut total = loss;
        for (coefficient, part) in [(balance, losses.load_balancing), (z, losses.z)] {
            if coefficient != 0.0 {
                total = g.add_scaled(&total, &part, share * coefficient)?;
            }
        }
        Ok(total)
    }

    /// Sets the factors with which training adds the router losses, in place of those of the config
    /// (`router_aux_loss_coef` where `output_router_logits` is true, and no z-loss).
    ///
    /// Fails for a model without routers.
    pub fn set_router_coefficients(&mut self, load_balancing: f32, z: f32) -> Result<()> {
        let Some(experts) = &mut self.decoder.spec.experts else {
            return Err(Error::invalid("router losses are for mixtures of experts; this model is dense"));
        };
        experts.balance_coefficient = load_balancing;
        experts.z_coefficient = z;
        Ok(())
    }
}

fn sum(g: &mut Graph<'_>, total: Option<Var>, part: Var) -> Result<Var> {
    match total {
        Some(total) => g.add(&total, &part),
        None => Ok(part),
    }
}
