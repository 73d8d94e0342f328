//! What prefixes bring back: from answers to shares.

use std::collections::BTreeMap;

use crate::asking::{Answered, Asked};
use crate::estimate::Estimate;
use crate::outcome::{Brought, Rates};
use crate::prefix::Prefix;

/// Of every case the share of its probes of which something is so.
type Shares = BTreeMap<usize, f64>;

/// What every kind of prefix brings back, the kinds that there are.
pub(crate) fn brought(asked: &[Asked], [before, after]: [&[Answered]; 2], seed: u64) -> Vec<Brought> {
    let says = |control, prefix| shares(asked, after, [control, false], prefix, &says);
    let none = says(false, Prefix::None);
    let of = |prefix: Prefix| {
        let own = asked.iter().filter(|asked| asked.probe.prefix == prefix && !asked.control);
        let probes = own.filter(|asked| asked.probe.says || asked.probe.likelier).count();
        let (ours, theirs) = (says(false, prefix), says(true, prefix));
        (probes > 0).then(|| Brought {
            prefix,
            probes,
            before: rates(asked, before, false, prefix, seed),
            after: rates(asked, after, false, prefix, seed),
            control: rates(asked, after, true, prefix, seed),
            over_none: (prefix != Prefix::None).then(|| over(&ours, &none, seed)).flatten(),
            over_control: over(&ours, &theirs, seed),
        })
    };
    Prefix::ALL.into_iter().filter_map(of).collect()
}

fn says(answered: &Answered) -> Option<f64> {
    Some(f64::from(u8::from(answered.says)))
}

fn rates(asked: &[Asked], answered: &[Answered], control: bool, prefix: Prefix, seed: u64) -> Rates {
    let share = |is: bool| f64::from(u8::from(is));
    let estimate = |likelier: bool, value: &dyn Fn(&Answered) -> Option<f64>| {
        mean(&shares(asked, answered, [control, likelier], prefix, value), seed)
    };
    Rates {
        says: estimate(false, &says),
        likelier: estimate(true, &|a| a.likelier().map(share)),
        likelier_by_length: estimate(true, &|a| a.likelier_by_length().map(share)),
        probability: estimate(true, &|a| Some(a.logprob_old.exp())),
    }
}

/// The mean of a value over every case's probes of a kind, as far as they count for it.
fn shares(
    asked: &[Asked],
    answered: &[Answered],
    [control, likelier]: [bool; 2],
    prefix: Prefix,
    value: &dyn Fn(&Answered) -> Option<f64>,
) -> Shares {
    let mut by_case: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for (asked, answered) in asked.iter().zip(answered) {
        let counts = if likelier { asked.probe.likelier } else { asked.probe.says };
        if counts && asked.control == control && asked.probe.prefix == prefix {
            by_case.entry(asked.case).or_default().extend(value(answered));
        }
    }
    by_case.retain(|_, values| !values.is_empty());
    by_case
        .into_iter()
        .map(|(case, values)| (case, values.iter().sum::<f64>() / values.len() as f64))
        .collect()
}

fn mean(shares: &Shares, seed: u64) -> Option<Estimate> {
    Estimate::of(&shares.values().copied().collect::<Vec<_>>(), seed)
}

/// By how much more, over the cases that have both.
fn over(ours: &Shares, theirs: &Shares, seed: u64) -> Option<Estimate> {
    let pairs = ours.iter().filter_map(|(case, own)| Some(own - theirs.get(case)?));
    Estimate::of(&pairs.collect::<Vec<_>>(), seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Probe;

    fn asked(case: usize, prefix: Prefix, control: bool, says: bool, likelier: bool) -> Asked {
        let probe = Probe { prefix, before: String::new(), prompt: 0, says, likelier };
        let (ids, old, new) = (vec![0], vec![1], Some(vec![2, 3]));
        Asked { case, control, probe, text: String::new(), ids, object: String::new(), old, new }
    }

    fn answered(says: bool, logprob_old: f64, logprob_new: f64) -> Answered {
        Answered {
            logprob_old,
            tokens_old: 1,
            logprob_new: Some(logprob_new),
            tokens_new: Some(2),
            text: String::new(),
            says,
        }
    }

    /// Case 0 has two probes behind Rep and says the object to one; case 1 has one, and says it. A probe that does not count
    /// does not count.
    #[test]
    fn cases_count_alike() {
        let all = [
            (asked(0, Prefix::None, false, true, true), answered(false, -3.0, -1.0)),
            (asked(1, Prefix::None, false, true, true), answered(true, -1.0, -3.0)),
            (asked(0, Prefix::Rep, false, true, true), answered(true, -1.0, -3.0)),
            (asked(0, Prefix::Rep, false, true, true), answered(false, -1.4, -2.0)),
            (asked(0, Prefix::Rep, false, false, false), answered(false, -9.0, -1.0)),
            (asked(1, Prefix::Rep, false, true, false), answered(true, -9.0, -1.0)),
            (asked(0, Prefix::Rep, true, true, true), answered(true, -1.0, -3.0)),
        ];
        let (asked, answered): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let found = brought(&asked, [&answered, &answered], 0);
        assert_eq!(
            found.iter().map(|b| (b.prefix, b.probes)).collect::<Vec<_>>(),
            [(Prefix::None, 2), (Prefix::Rep, 3)]
        );
        let rep = &found[1];
        let value = |estimate: &Option<Estimate>| estimate.map(|e| (e.value, e.n)).unwrap();
        assert_eq!(value(&rep.after.says), (0.75, 2));
        assert_eq!(value(&rep.after.likelier), (1.0, 1), "both of the case's are");
        // -1.4 against a mean of -1 over two tokens.
        assert_eq!(value(&rep.after.likelier_by_length), (0.5, 1));
        assert_eq!(value(&rep.control.says), (1.0, 1));
        assert_eq!(value(&rep.over_none), (0.25, 2), "0.5 - 0 and 1 - 1");
        assert_eq!(value(&rep.over_control), (-0.5, 1));
        assert_eq!(found[0].over_none, None);
        assert_eq!(found[0].control, Rates::default());
    }
}
