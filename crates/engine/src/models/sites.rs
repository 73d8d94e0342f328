//! Sites under the paths that a family's checkpoints have for its modules.
//!
//! A module's path is the site of its output, with `.input` behind it that of its input. What is no site by
//! itself (a fused projection, a norm's output) has no path here; all sites have circuit-style names.

use super::decoder::Decoder;
use super::mixture::ExpertNames;
use super::spec::{BlockNames, BlockSpec, InnerNames, Positions, QkvNames, Spec};
use crate::taps::BlockSite::{self, *};
use crate::taps::Site;
use crate::{Error, Result};

impl<'a> BlockSpec<'a> {
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

/// The site at `path` in blocks that lie under `blocks`; `None` where the path leads elsewhere.
pub(super) fn in_blocks<'s>(
    path: &str,
    blocks: &str,
    spec: impl Fn(usize) -> Option<BlockSpec<'s>>,
) -> Option<Site> {
    let rest = path.strip_prefix(blocks)?.strip_prefix('.')?;
    let (layer, inner) = rest.split_once('.').unwrap_or((rest, ""));
    let layer = layer.parse().ok()?;
    let paths = spec(layer)?.paths();
    paths.into_iter().find(|(path, _)| path == inner).map(|(_, site)| Site::Block(layer, site))
}

/// What is said of a name that is no site, with the paths of a block that are some.
pub(super) fn unknown(name: &str, prefix: &str, block: BlockSpec<'_>) -> Error {
    let blocks = block.names.blocks;
    let inner = block.paths().into_iter().map(|(path, _)| path).filter(|path| !path.is_empty());
    Error::invalid(format!(
        "unknown site {name:?}; sites are called blocks.0.hook_resid_post or {prefix}{blocks}.0; inside that block: {}",
        inner.collect::<Vec<_>>().join(", ")
    ))
}

impl Decoder {
    /// The site of a name: `blocks.3.hook_resid_post`, or the path of a module as the checkpoint has it.
    pub(super) fn site(&self, name: &str) -> Result<Site> {
        let base = self.spec.names.base;
        let short = format!("{base}{name}");
        let by_path = || [name, &short].into_iter().find_map(|path| site_at(&self.spec, path));
        match name.parse().ok().or_else(by_path) {
            Some(Site::Block(layer, _)) if layer >= self.spec.layers => Err(Error::invalid(format!(
                "site {name:?} is in block {layer}; the model has 0 to {}",
                self.spec.layers - 1
            ))),
            Some(site) => Ok(site),
            None => Err(unknown(name, "", self.spec.block(0))),
        }
    }
}

fn site_at(spec: &Spec, path: &str) -> Option<Site> {
    let names = spec.names;
    // The site is behind the scaling, which some families do in the module and others outside of it.
    if path == names.embedding && spec.embedding_scale.is_none() {
        return Some(Site::Embed);
    }
    if path == names.head {
        return Some(Site::Logits);
    }
    if matches!(spec.positions, Positions::Learned(table) if table == path) {
        return Some(Site::PosEmbed);
    }
    // A layer that the model has not is refused by its number, so its paths are those of the last.
    in_blocks(path, names.block.blocks, |l| Some(spec.block(l.min(spec.layers - 1))))
}
