//! Which tower of a model a site is in.

use std::fmt;
use std::str::FromStr;

use super::Site;
use crate::Error;

/// What a tower reads, which is what it goes by: a decoder and an encoder of texts are towers of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Modality {
    /// Tokens: `text.blocks.3.attn.hook_q`.
    Text,
    /// Patches of images: `vision.blocks.3.attn.hook_q`.
    Vision,
}

impl Modality {
    /// A site of the tower that reads this.
    pub fn at(self, site: Site) -> TowerSite {
        TowerSite { tower: Some(self), site }
    }

    /// What it is called in errors.
    pub(crate) fn name(self) -> &'static str {
        self.prefix().trim_end_matches('.')
    }

    fn prefix(self) -> &'static str {
        match self {
            Modality::Text => "text.",
            Modality::Vision => "vision.",
        }
    }
}

/// A site of one tower; without one, of whichever tower runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TowerSite {
    /// The tower.
    pub tower: Option<Modality>,
    /// The place in it.
    pub site: Site,
}

impl From<Site> for TowerSite {
    fn from(site: Site) -> Self {
        TowerSite { tower: None, site }
    }
}

impl fmt::Display for TowerSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.tower.map_or("", Modality::prefix), self.site)
    }
}

impl FromStr for TowerSite {
    type Err = Error;

    /// Reads `vision.blocks.3.hook_resid_post`, and `blocks.3.hook_resid_post` as that of any tower.
    fn from_str(text: &str) -> Result<Self, Error> {
        for tower in [Modality::Text, Modality::Vision] {
            if let Some(site) = text.strip_prefix(tower.prefix()) {
                return Ok(tower.at(site.parse()?));
            }
        }
        Ok(TowerSite::from(text.parse::<Site>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::taps::BlockSite;

    #[test]
    fn the_tower_is_part_of_the_name() {
        let site = Site::Block(3, BlockSite::Q);
        for (name, tower) in [
            ("blocks.3.attn.hook_q", None),
            ("text.blocks.3.attn.hook_q", Some(Modality::Text)),
            ("vision.blocks.3.attn.hook_q", Some(Modality::Vision)),
        ] {
            let read = name.parse::<TowerSite>().unwrap();
            assert_eq!(read, TowerSite { tower, site });
            assert_eq!(read.to_string(), name);
        }
        assert!("audio.blocks.3.attn.hook_q".parse::<TowerSite>().is_err());
    }
}
