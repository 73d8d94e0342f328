//! The sites that a model has, and their names: for decoders and encoders alike.

use super::spec::BlockSpec;
use crate::taps::{BlockSite, Modality, Site, Taps, TowerSite};
use crate::{Error, Result};

/// The sites of a decoder, or of one tower of an encoder.
pub(super) struct TowerSites<'a> {
    pub(super) tower: Modality,
    /// What stands in front of paths, and may be left out where the model has no other tower.
    pub(super) prefix: &'a str,
    /// Path of the module that holds the blocks.
    pub(super) blocks: String,
    /// What every block is made of.
    pub(super) specs: Vec<BlockSpec<'a>>,
    /// Sites outside of the blocks, with the path of the module whose output it is, where it is one's.
    pub(super) outer: Vec<(Site, Option<String>)>,
}

impl TowerSites<'_> {
    pub(super) fn has(&self, site: Site) -> bool {
        match site {
            Site::Block(layer, inner) => self.specs.get(layer).is_some_and(|block| block.has(inner)),
            outer => self.outer.iter().any(|(known, _)| *known == outer),
        }
    }

    /// The site at a path. A layer that the model has not is refused by its number, so its paths are those of the last.
    fn at_path(&self, path: &str) -> Option<Site> {
        if let Some((site, _)) = self.outer.iter().find(|(_, own)| own.as_deref() == Some(path)) {
            return Some(*site);
        }
        let rest = path.strip_prefix(&self.blocks)?.strip_prefix('.')?;
        let (layer, inner) = rest.split_once('.').unwrap_or((rest, ""));
        let layer: usize = layer.parse().ok()?;
        let paths = self.specs.get(layer).or(self.specs.last())?.paths();
        paths.into_iter().find(|(path, _)| path == inner).map(|(_, site)| Site::Block(layer, site))
    }

    /// The sites outside of the blocks and those of a layer.
    fn near(&self, layer: usize) -> impl Iterator<Item = Site> {
        let inner = BlockSite::all().map(move |inner| Site::Block(layer, inner));
        self.outer.iter().map(|(site, _)| *site).chain(inner).filter(move |&site| self.has(site))
    }
}

/// The site of a name: `blocks.3.hook_resid_post`, `vision.blocks.3.hook_resid_post`, or the path of a module as the
/// checkpoint has it.
///
/// Fails where none of the towers has it.
pub(super) fn find(towers: &[TowerSites<'_>], name: &str) -> Result<TowerSite> {
    let by_path = |tower: &TowerSites<'_>| {
        let short = (towers.len() == 1).then(|| format!("{}{name}", tower.prefix));
        let site =
            [Some(name), short.as_deref()].into_iter().flatten().find_map(|path| tower.at_path(path))?;
        Some(tower.tower.at(site))
    };
    let site = name.parse().ok().or_else(|| towers.iter().find_map(by_path));
    let site = site.ok_or_else(|| unknown(towers, name))?;
    check(towers, site, name)?;
    Ok(site)
}

/// Fails where taps reach for a site that none of the towers has.
pub(super) fn check_taps(towers: &[TowerSites<'_>], taps: &Taps) -> Result<()> {
    taps.sites().try_for_each(|site| check(towers, site, &site.to_string()))
}

/// Fails where there are taps, and none of them is for the tower that runs: they would do nothing.
pub(super) fn check_reach(running: &TowerSites<'_>, taps: &Taps) -> Result<()> {
    let reaches =
        |site: TowerSite| site.tower.is_none_or(|meant| meant == running.tower) && running.has(site.site);
    match taps.sites().next() {
        Some(first) if !taps.sites().any(reaches) => Err(Error::invalid(format!(
            "none of the taps is in the {} tower, which reads this input; {first} is not",
            running.tower.name()
        ))),
        _ => Ok(()),
    }
}

fn check(towers: &[TowerSites<'_>], site: TowerSite, name: &str) -> Result<()> {
    let meant = |tower: &&TowerSites<'_>| site.tower.is_none_or(|meant| meant == tower.tower);
    if towers.iter().filter(meant).any(|tower| tower.has(site.site)) {
        return Ok(());
    }
    let layers = towers.iter().filter(meant).map(|tower| tower.specs.len()).max();
    if let (Site::Block(layer, _), Some(layers)) = (site.site, layers)
        && layer >= layers
    {
        let last = layers.saturating_sub(1);
        return Err(Error::invalid(format!("site {name:?} is in block {layer}; the model has 0 to {last}")));
    }
    let layer = if let Site::Block(layer, _) = site.site { layer } else { 0 };
    // Of a tower that the model has not, the others have what comes nearest.
    let of_towers = towers.iter().filter(|tower| layers.is_none() || meant(tower));
    let names = of_towers.flat_map(|tower| {
        let named = site.tower.map(|_| tower.tower);
        tower.near(layer).map(move |near| TowerSite { tower: named, site: near }.to_string())
    });
    let nearest = names.min_by_key(|near| strsim::osa_distance(near, &site.to_string()));
    let nearest = nearest.map(|near| format!("; the nearest that it has is {near}")).unwrap_or_default();
    Err(Error::invalid(format!("the model has no site {name:?}{nearest}")))
}

/// What is said of a name that is no site, with the paths of a block that are some.
fn unknown(towers: &[TowerSites<'_>], name: &str) -> Error {
    let Some((blocks, first)) = towers.first().and_then(|tower| Some((&tower.blocks, tower.specs.first()?)))
    else {
        return Error::invalid(format!("unknown site {name:?}"));
    };
    let inner = first.paths().into_iter().map(|(path, _)| path).filter(|path| !path.is_empty());
    Error::invalid(format!(
        "unknown site {name:?}; sites are called blocks.0.hook_resid_post or {blocks}.0; inside that block: {}",
        inner.collect::<Vec<_>>().join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::models::decoder::TOWER;
    use crate::models::stack::ForwardContext;
    use crate::models::tokens::Tokens;
    use crate::tape::Layout;
    use crate::{Graph, Model};

    const DECODERS: [&str; 12] = [
        "gemma2",
        "gemma3-text",
        "gpt-neox-pythia",
        "gpt2",
        "llama3-rope-sharded",
        "mistral-sliding-window",
        "mixtral",
        "olmo2",
        "phi3",
        "qwen2",
        "qwen3",
        "qwen3-moe",
    ];

    /// Taps at other sites are refused; nothing that could be tapped is lost by that.
    #[test]
    fn a_forward_pass_comes_by_no_site_that_is_refused() {
        for name in DECODERS {
            let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name);
            let model = Model::open(fixture).unwrap();
            let sites = || {
                let blocks = (0..model.spec().layers)
                    .flat_map(|l| BlockSite::all().map(move |inner| Site::Block(l, inner)));
                blocks.chain([Site::Embed, Site::PosEmbed, Site::FinalScale, Site::FinalNormalized])
            };
            let mut taps = Taps::none();
            for site in sites() {
                taps.read(site);
            }
            let (ids, layout) = ([3, 4, 5], Layout::packed([3]));
            let context =
                ForwardContext { tower: TOWER, layout: &layout, caches: None, taps: &taps, recompute: false };
            let mut g = Graph::inference(&model.params);
            model.decoder.forward(&mut g, Tokens { ids: &ids, soft: None }, context).unwrap();
            for site in sites() {
                assert_eq!(!taps.take(site).is_empty(), model.decoder.sites().has(site), "{name} {site}");
            }
        }
    }
}
