//! The sites of a block, and those among them that checkpoints of its family have a path for.
//!
//! A module's path is the site of its output, with `.input` behind it that of its input. What is no site by
//! itself (a fused projection, a norm's output) has no path here; all sites have circuit-style names.

use super::mixture::ExpertNames;
use super::spec::{BlockNames, BlockSpec, InnerNames, QkvNames};
use crate::taps::BlockSite::{self, *};

impl<'a> BlockSpec<'a> {
    /// Whether the block has the site: not every feed-forward has a gate or a router.
    pub(super) fn has(&self, site: BlockSite) -> bool {
        let names = self.names;
        match site {
            MlpPreLinear => self.experts.is_some() || !matches!(names.inner, InnerNames::Plain(_)),
            RouterLogits | RouterIndices | RouterWeights => self.experts.is_some(),
            Ln1Scale | Ln1Normalized => {
                let norms = [names.before_attention, names.after_attention, names.after_attention_sum];
                norms.iter().any(Option::is_some)
            }
            Ln2Scale | Ln2Normalized => {
                [names.before_mlp, names.after_mlp, names.after_mlp_sum].iter().any(Option::is_some)
            }
            ResidPre | ResidMid | ResidPost | AttnOut | MlpOut | Q | K | V | RotQ | RotK | Scores
            | Pattern | Z | HeadResult | MlpPre | MlpPost => true,
        }
    }

    /// Path of the module that is the whole feed-forward, within the block; `None` where its layers have no module to
    /// themselves.
    pub(super) fn feed_forward(&self) -> Option<&'a str> {
        match self.experts {
            Some(experts) => Some(experts.names.module),
            None => common_module(self.names.inner.first(), self.names.down),
        }
    }

    /// Every path within the block that is a site; the block itself is the empty one.
    pub(super) fn paths(&self) -> Vec<(String, BlockSite)> {
        let mut paths = Paths(vec![(String::new(), ResidPost), ("input".to_owned(), ResidPre)]);
        self.attention_paths(&mut paths);
        match self.experts {
            Some(experts) => {
                let ExpertNames { module, .. } = experts.names;
                paths.add(&format!("{module}.gate"), RouterLogits);
                paths.add_branch(self.names.after_mlp, module, None, MlpOut);
            }
            None => self.feed_forward_paths(&mut paths),
        }
        self.names.after_mlp_sum.into_iter().for_each(|norm| paths.add(norm, ResidPost));
        paths.0
    }

    fn attention_paths(&self, paths: &mut Paths) {
        let BlockNames { qkv, output, after_attention, after_attention_sum, .. } = *self.names;
        // Where queries and keys are normalised, the sites are behind that.
        if self.qk_norm.is_some() {
            let [q, k] = self.names.qk_norm;
            paths.add(q, Q);
            paths.add(k, K);
        }
        let first = match qkv {
            QkvNames::Separate([q, k, v]) => {
                if self.qk_norm.is_none() {
                    paths.add(q, Q);
                    paths.add(k, K);
                }
                paths.add(v, V);
                q
            }
            QkvNames::Fused(all) | QkvNames::FusedPerHead(all) => all,
        };
        paths.add(&format!("{output}.input"), Z);
        paths.add_branch(after_attention, output, common_module(first, output), AttnOut);
        after_attention_sum.into_iter().for_each(|norm| paths.add(norm, ResidMid));
    }

    fn feed_forward_paths(&self, paths: &mut Paths) {
        let BlockNames { inner, down, after_mlp, .. } = *self.names;
        match inner {
            InnerNames::Gated([gate, up]) => {
                paths.add(gate, MlpPre);
                paths.add(up, MlpPreLinear);
            }
            InnerNames::Plain(up) => paths.add(up, MlpPre),
            InnerNames::GatedFused(_) => {}
        }
        paths.add(&format!("{down}.input"), MlpPost);
        paths.add_branch(after_mlp, down, self.feed_forward(), MlpOut);
    }
}

struct Paths(Vec<(String, BlockSite)>);

impl Paths {
    fn add(&mut self, path: &str, site: BlockSite) {
        self.0.push((path.to_owned(), site));
    }

    /// What a branch adds to the residual stream: the output of the norm behind it, where there is one,
    /// otherwise of its last layer, and of the module that holds the whole branch.
    fn add_branch(&mut self, norm: Option<&str>, last: &str, module: Option<&str>, site: BlockSite) {
        match norm {
            Some(norm) => self.add(norm, site),
            None => [last].into_iter().chain(module).for_each(|path| self.add(path, site)),
        }
    }
}

/// The module that directly holds both, which then is the whole of a branch.
fn common_module<'a>(first: &'a str, last: &str) -> Option<&'a str> {
    let (module, _) = first.rsplit_once('.')?;
    (last.rsplit_once('.')?.0 == module).then_some(module)
}
