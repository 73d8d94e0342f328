//! Taps: every named place of a forward pass can be read, changed, or differentiated.
//!
//! With no tap at a site the value passes through untouched, so plain inference stays bit-identical. A tap
//! that selects a part of a value leaves the bits of the rest as they are.

mod action;
mod member;
mod selector;
mod site;
mod tower;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

pub use action::{Action, TapFunction};
pub(crate) use member::Member;
pub use selector::{Origin, Selector};
pub use site::{BlockSite, Site};
pub use tower::{Modality, TowerSite};

use selector::Selected;

use crate::gradients::LeafId;
use crate::tape::{Graph, Layout, Var};
use crate::{Error, Result, Tensor};

/// What was read at a site in one pass.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The values: [selected rows, selected columns].
    pub tensor: Tensor,
    /// The token that each row stands for.
    pub origins: Vec<Origin>,
}

/// A set of taps, and what the reading ones have read.
#[derive(Default)]
pub struct Taps {
    actions: BTreeMap<Site, Vec<Tap>>,
    readings: Mutex<BTreeMap<TowerSite, Vec<Reading>>>,
    held: Mutex<BTreeMap<TowerSite, Var>>,
    /// Taps of some sequences alone.
    members: Vec<Member>,
}

/// Whether what taps have made of a value will do.
pub(crate) type Check<'c> = dyn Fn(&Tensor) -> Result<()> + 'c;

/// What is done at a site, in one tower or in all.
struct Tap {
    tower: Option<Modality>,
    selector: Selector,
    action: Action,
}

impl Taps {
    /// No taps.
    pub fn none() -> Self {
        Self::default()
    }

    /// Taps that are each for some sequences of a pass.
    pub(crate) fn joined(members: Vec<Member>) -> Self {
        Taps { members, ..Self::default() }
    }

    /// Adds an action at a site; several at one site happen in the order they were added.
    pub fn add(&mut self, site: impl Into<TowerSite>, selector: Selector, action: Action) -> &mut Self {
        let TowerSite { tower, site } = site.into();
        self.actions.entry(site).or_default().push(Tap { tower, selector, action });
        self
    }

    /// Adds a reading of the whole value of a site.
    pub fn read(&mut self, site: impl Into<TowerSite>) -> &mut Self {
        self.add(site, Selector::default(), Action::Read)
    }

    /// Asks for the value of a site itself, to go on computing with in the graph of the pass: what a loss of hidden states is
    /// made of. While anything is held, blocks are kept whole for the backward pass, whatever
    /// [`Model::recompute`](crate::Model::recompute) says: a block that is run again makes other values.
    pub fn hold(&mut self, site: impl Into<TowerSite>) -> &mut Self {
        self.add(site, Selector::default(), Action::Hold)
    }

    /// What is held of a site, of the last pass, under the name it was asked for by; `None` where no pass came there.
    pub fn held(&self, site: impl Into<TowerSite>) -> Option<Var> {
        self.held.lock().ok()?.get(&site.into()).cloned()
    }

    /// Whether the value of any site is held.
    pub(crate) fn holds(&self) -> bool {
        self.actions.values().flatten().any(|tap| matches!(tap.action, Action::Hold))
    }

    /// Asks for the gradient of the whole value of a site, which comes under the id that is returned.
    pub fn leaf(&mut self, site: impl Into<TowerSite>) -> LeafId {
        let id = LeafId::fresh();
        self.add(site, Selector::default(), Action::Leaf(id));
        id
    }

    /// Whether anything happens at this site.
    pub fn touches(&self, site: impl Into<TowerSite>) -> bool {
        let site = site.into();
        self.at_site(site).next().is_some() || self.members.iter().any(|member| member.touches(site))
    }

    /// Every site at which anything happens, under the name it was asked for by.
    pub(crate) fn sites(&self) -> impl Iterator<Item = TowerSite> {
        let of_site = |(&site, taps): (&Site, &Vec<Tap>)| {
            taps.iter().map(|tap| TowerSite { tower: tap.tower, site }).collect::<Vec<_>>()
        };
        self.actions.iter().flat_map(of_site)
    }

    /// What has failed since the last call, under the keys of the sequences that it failed at: of taps that are
    /// each for some sequences of a pass.
    pub(crate) fn take_failures(&self) -> BTreeMap<u64, Error> {
        self.members.iter().flat_map(Member::take_failures).collect()
    }

    /// The taps of a site. One that names no tower is for whichever runs.
    fn at_site(&self, site: TowerSite) -> impl Iterator<Item = &Tap> {
        let taps = self.actions.get(&site.site).into_iter().flatten();
        taps.filter(move |tap| tap.tower.is_none() || site.tower.is_none() || tap.tower == site.tower)
    }

    /// Whether nothing happens anywhere.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.members.iter().all(Member::is_empty)
    }

    /// What was read at a site since the last call, under the name it was asked for by, in order of the
    /// forward passes. Scores and patterns are read one sequence at a time.
    pub fn take(&self, site: impl Into<TowerSite>) -> Vec<Reading> {
        let site = site.into();
        self.readings.lock().map(|mut r| r.remove(&site).unwrap_or_default()).unwrap_or_default()
    }

    /// Passes a value through the taps at `site`.
    pub fn at<'m>(
        &self,
        g: &mut Graph<'m>,
        site: impl Into<TowerSite>,
        x: Var,
        layout: &Layout,
    ) -> Result<Var> {
        self.at_checked(g, site.into(), x, layout, &|_| Ok(()))
    }

    /// The same where not every value will do: what fails the check is an error of the taps. After an error nothing
    /// counts as read.
    pub(crate) fn at_checked<'m>(
        &self,
        g: &mut Graph<'m>,
        site: TowerSite,
        x: Var,
        layout: &Layout,
        check: &Check<'_>,
    ) -> Result<Var> {
        let (mut x, mut read) = (x, Vec::new());
        for Tap { tower, selector, action } in self.at_site(site) {
            if let Action::Hold = action {
                let asked = TowerSite { tower: *tower, site: site.site };
                if let Ok(mut held) = self.held.lock() {
                    held.insert(asked, x.clone());
                }
                continue;
            }
            let Selected { region, origins } = selector.select(site, x.value(), layout)?;
            if let Action::Read = action {
                // Under activation checkpointing a block runs twice; the first run has been read.
                if !g.is_replaying() {
                    let asked = TowerSite { tower: *tower, site: site.site };
                    read.push((asked, Reading { tensor: region.of(x.value()), origins }));
                }
            } else if !region.rows.is_empty() {
                let part = g.pick(&x, &region)?;
                let part = action.on(g, site, &part, &origins)?;
                x = g.put(&x, &region, &part)?;
            }
        }
        check(x.value())?;
        if !read.is_empty()
            && let Ok(mut readings) = self.readings.lock()
        {
            read.into_iter().for_each(|(asked, reading)| readings.entry(asked).or_default().push(reading));
        }
        for member in &self.members {
            x = member.at(g, site, x, layout, check);
        }
        Ok(x)
    }
}

impl fmt::Debug for Taps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.actions.keys()).finish()
    }
}
