//! Numbers, with bounds.
//!
//! Numbers are written with at most 15 digits: readers that hold them in 64-bit floating point then tell any
//! two of them apart, so a bound that holds for the text holds for what is read.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::super::grammar::{END, NodeId};
use super::{Compiler, refused};
use crate::Result;

/// Most digits of a number.
const DIGITS: usize = 15;
/// Most digits where a bound asks for more; 64-bit integers hold them.
const MOST_DIGITS: usize = 18;

/// A bound's decimal digits.
#[derive(Debug, Clone)]
struct Bound {
    negative: bool,
    /// Without leading zeros; at least one.
    whole: Vec<u8>,
    /// Without trailing zeros.
    fraction: Vec<u8>,
    /// Whether the bound itself is out.
    strict: bool,
}

impl Bound {
    fn zero(strict: bool) -> Self {
        Bound { negative: false, whole: vec![0], fraction: Vec::new(), strict }
    }

    /// Reads what JSON writes, exponents included.
    fn of(value: &Value, key: &str, path: &str) -> Result<Self> {
        let Value::Number(number) = value else {
            return Err(refused(path, format!("{key} must be a number, not {value}")));
        };
        let text = number.to_string().to_ascii_lowercase();
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let (whole, fraction) = mantissa
            .trim_start_matches('-')
            .split_once('.')
            .unwrap_or((mantissa.trim_start_matches('-'), ""));
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
        let point = whole.len() as i32 + exponent;
        let at = |i: i32| usize::try_from(i).ok().and_then(|i| digits.get(i)).copied().unwrap_or(0);
        let mut whole: Vec<u8> = (0..point).map(at).skip_while(|&d| d == 0).collect();
        let mut fraction: Vec<u8> = (point..digits.len() as i32).map(at).collect();
        while fraction.last() == Some(&0) {
            fraction.pop();
        }
        if whole.is_empty() {
            whole.push(0);
        }
        if whole.len() > MOST_DIGITS {
            return Err(refused(path, format!("{key} {value} has more than {MOST_DIGITS} digits")));
        }
        let zero = whole == [0] && fraction.is_empty();
        Ok(Bound {
            negative: text.starts_with('-') && !zero,
            whole,
            fraction,
            strict: key.starts_with("exclusive"),
        })
    }

    fn key(&self) -> (Vec<u8>, &[u8]) {
        let mut padded = vec![0; MOST_DIGITS - self.whole.len()];
        padded.extend(&self.whole);
        (padded, &self.fraction)
    }

    /// Digit `i` of the whole part.
    fn digit(&self, i: usize) -> u8 {
        self.whole.get(i).copied().unwrap_or(0)
    }

    /// Digit `i` after the point.
    fn decimal(&self, i: usize) -> u8 {
        self.fraction.get(i).copied().unwrap_or(0)
    }

    /// Of a lower and an upper bound for the same side, the tighter.
    fn tighter(self, other: Bound, lower: bool) -> Bound {
        let order = match (self.negative, other.negative) {
            (false, true) => std::cmp::Ordering::Greater,
            (true, false) => std::cmp::Ordering::Less,
            (false, false) => self.key().cmp(&other.key()),
            (true, true) => other.key().cmp(&self.key()),
        };
        let first = match order {
            std::cmp::Ordering::Equal => self.strict,
            std::cmp::Ordering::Greater => lower,
            std::cmp::Ordering::Less => !lower,
        };
        if first { self } else { other }
    }
}

/// Numbers without a sign between two bounds.
struct Range<'b> {
    low: &'b Bound,
    high: Option<&'b Bound>,
    integer: bool,
    /// Digits before the point.
    length: usize,
    /// Most digits after the point.
    decimals: usize,
}

impl Compiler<'_> {
    pub(super) fn number(
        &mut self,
        map: &Map<String, Value>,
        integer: bool,
        path: &str,
        next: NodeId,
    ) -> Result<NodeId> {
        if let Some(step) = map.get("multipleOf")
            && !(integer && step.as_f64() == Some(1.0))
        {
            return Err(refused(path, format!("multipleOf {step} is not supported")));
        }
        let bound = |key: &str| map.get(key).map(|value| Bound::of(value, key, path)).transpose();
        let tightest = |a: Option<Bound>, b: Option<Bound>, lower| match (a, b) {
            (Some(a), Some(b)) => Some(a.tighter(b, lower)),
            (a, b) => a.or(b),
        };
        let low = tightest(bound("minimum")?, bound("exclusiveMinimum")?, true);
        let high = tightest(bound("maximum")?, bound("exclusiveMaximum")?, false);
        let rule = self.grammar.declare(false);
        let start = if low.is_none() && high.is_none() && !integer {
            self.any_number()?
        } else {
            self.bounded(low, high, integer)?
        };
        self.grammar.define(rule, start);
        self.grammar.call(rule, next)
    }

    /// Any number, exponents included.
    fn any_number(&mut self) -> Result<NodeId> {
        let grammar = &mut self.grammar;
        let last = grammar.bytes(vec![(b'0', b'9', END)])?;
        let second = grammar.any_of([last, END])?;
        // Two digits of exponent keep every number finite.
        let exponent = grammar.bytes(vec![(b'0', b'9', second)])?;
        let sign = grammar.bytes(vec![(b'+', b'+', exponent), (b'-', b'-', exponent)])?;
        let signed = grammar.any_of([sign, exponent])?;
        let exponent = grammar.bytes(vec![(b'E', b'E', signed), (b'e', b'e', signed)])?;
        let tail = grammar.any_of([exponent, END])?;
        let mut more = tail;
        for _ in 1..DIGITS {
            let digit = grammar.bytes(vec![(b'0', b'9', more)])?;
            more = grammar.any_of([digit, tail])?;
        }
        let decimals = grammar.bytes(vec![(b'0', b'9', more)])?;
        let point = grammar.literal(".", decimals)?;
        let fraction = grammar.any_of([point, tail])?;
        let mut more = fraction;
        for _ in 1..DIGITS {
            let digit = grammar.bytes(vec![(b'0', b'9', more)])?;
            more = grammar.any_of([digit, fraction])?;
        }
        let whole = grammar.bytes(vec![(b'0', b'0', fraction), (b'1', b'9', more)])?;
        let negative = grammar.literal("-", whole)?;
        grammar.any_of([negative, whole])
    }

    fn bounded(&mut self, low: Option<Bound>, high: Option<Bound>, integer: bool) -> Result<NodeId> {
        let mut starts = Vec::new();
        // From zero up.
        if high.as_ref().is_none_or(|h| !h.negative) {
            let from = low.clone().filter(|l| !l.negative).unwrap_or_else(|| Bound::zero(false));
            starts.extend(self.unsigned(&from, high.as_ref(), integer)?);
        }
        // Below zero, the sign and what is between the bounds turned round.
        if low.as_ref().is_none_or(|l| l.negative) {
            let positive = |bound: Bound| Bound { negative: false, ..bound };
            let from = high.filter(|h| h.negative).map(positive).unwrap_or_else(|| Bound::zero(true));
            let to = low.map(positive);
            for start in self.unsigned(&from, to.as_ref(), integer)? {
                starts.push(self.grammar.literal("-", start)?);
            }
        }
        self.grammar.any_of(starts)
    }

    fn unsigned(&mut self, low: &Bound, high: Option<&Bound>, integer: bool) -> Result<Vec<NodeId>> {
        let longest = high.map_or(DIGITS.max(low.whole.len()), |h| h.whole.len());
        let mut starts = Vec::new();
        for length in low.whole.len()..=longest {
            let decimals = if integer { 0 } else { DIGITS.saturating_sub(length) };
            let range = Range { low, high, integer, length, decimals };
            let tight_low = length == low.whole.len();
            let tight_high = high.is_some_and(|h| length == h.whole.len());
            starts.push(self.whole(&range, 0, tight_low, tight_high)?);
        }
        Ok(starts)
    }

    /// Digit `i` of the whole part and what follows. `low` and `high` say whether all digits so far are the
    /// bound's own.
    fn whole(&mut self, range: &Range<'_>, i: usize, low: bool, high: bool) -> Result<NodeId> {
        if i == range.length {
            return self.fraction(range, 0, low, high);
        }
        let first = if i == 0 && range.length > 1 { 1 } else { 0 };
        let least = if low { range.low.digit(i).max(first) } else { first };
        let most = range.high.filter(|_| high).map_or(9, |h| h.digit(i));
        let tight = |digit| {
            (low && digit == range.low.digit(i), high && range.high.is_some_and(|h| digit == h.digit(i)))
        };
        self.digits(least..=most, tight, |compiler, low, high| compiler.whole(range, i + 1, low, high))
    }

    /// The end, or the point and digits from `i` on after it.
    fn fraction(&mut self, range: &Range<'_>, i: usize, low: bool, high: bool) -> Result<NodeId> {
        let left = |bound: &Bound| bound.fraction.len() > i;
        let above = !low || (!left(range.low) && !range.low.strict);
        let below = range.high.filter(|_| high).is_none_or(|h| left(h) || !h.strict);
        let mut ways = if above && below { vec![END] } else { Vec::new() };
        if !range.integer && i < range.decimals {
            let least = if low { range.low.decimal(i) } else { 0 };
            let most = range.high.filter(|_| high).map_or(9, |h| h.decimal(i));
            let tight = |digit| {
                (
                    low && digit == range.low.decimal(i),
                    high && range.high.is_some_and(|h| digit == h.decimal(i)),
                )
            };
            let digit = self.digits(least..=most, tight, |compiler, low, high| {
                compiler.fraction(range, i + 1, low, high)
            })?;
            ways.push(if i == 0 { self.grammar.literal(".", digit)? } else { digit });
        }
        self.grammar.any_of(ways)
    }

    /// One of some digits, each followed by what its tightness asks for.
    fn digits(
        &mut self,
        digits: RangeInclusive<u8>,
        tight: impl Fn(u8) -> (bool, bool),
        mut after: impl FnMut(&mut Self, bool, bool) -> Result<NodeId>,
    ) -> Result<NodeId> {
        let mut ranges: Vec<(u8, u8, NodeId)> = Vec::new();
        let mut made: Vec<((bool, bool), NodeId)> = Vec::new();
        for digit in digits {
            let tight = tight(digit);
            let next = match made.iter().find(|(known, _)| *known == tight) {
                Some(&(_, next)) => next,
                None => after(self, tight.0, tight.1)?,
            };
            made.push((tight, next));
            ranges.push((b'0' + digit, b'0' + digit, next));
        }
        self.grammar.bytes(ranges)
    }
}
