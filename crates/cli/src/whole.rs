//! How far a run is as a whole, and when it will be done: the forecast, corrected by what its stages really took.

use std::time::{Duration, Instant};

use amend_run::Forecast;
use amend_run::forecast::PlannedStage;

use crate::progress::duration;

/// Until stages of so many seconds are behind it, a forecast is not corrected.
const TELLING: f64 = 2.0;

/// A run and the stages it consists of; without any, until there is a plan.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    stages: Vec<PlannedStage>,
    /// The stage in progress, and when it began.
    current: Option<(usize, Instant)>,
    /// Seconds that the stages behind it took, and those they were forecast to take.
    took: f64,
    forecast: f64,
}

impl Whole {
    /// Takes up the plan of a run.
    pub(crate) fn plan(&mut self, forecast: &Forecast) {
        *self = Whole { stages: forecast.stages.clone(), ..Whole::default() };
    }

    /// An activity begins, which may be a stage of the run.
    pub(crate) fn begin(&mut self, label: &str) {
        if let Some(index) = self.stages.iter().position(|stage| stage.name == label) {
            self.current = Some((index, Instant::now()));
        }
    }

    /// An activity is over, in which this share of what it was to do was done.
    pub(crate) fn finish(&mut self, label: &str, share: f64) {
        let is_it = |(index, _): &(usize, Instant)| self.stages[*index].name == label;
        if let Some((index, began)) = self.current.filter(is_it) {
            self.took += began.elapsed().as_secs_f64();
            self.forecast += self.stages[index].seconds * share.min(1.0);
        }
    }

    /// `stage 3 of 9, arm 2 of 3, about 12m 30s left`; nothing where there is no plan. `left` is what is known of the
    /// stage in progress, and `share` how much of it is done.
    pub(crate) fn place(&self, left: Option<Duration>, share: f64) -> Option<String> {
        let (index, _) = self.current?;
        let PlannedStage { part, seconds, .. } = &self.stages[index];
        let pace = if self.forecast < TELLING { 1.0 } else { self.took / self.forecast };
        let here = left.map_or(seconds * (1.0 - share.min(1.0)) * pace, |left| left.as_secs_f64());
        let later: f64 = self.stages[index + 1..].iter().map(|stage| stage.seconds * pace).sum();
        let part = if part.is_empty() { String::new() } else { format!(", {part}") };
        let left = duration(Duration::from_secs_f64((here + later).min(1e9)));
        Some(format!("stage {} of {}{part}, about {left} left", index + 1, self.stages.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned() -> Whole {
        let stage =
            |name: &str, part: &str, seconds| PlannedStage { name: name.into(), part: part.into(), seconds };
        let mut whole = Whole::default();
        whole.plan(&Forecast {
            stages: vec![
                stage("base", "", 10.0),
                stage("a-unlearn", "arm 1 of 2", 60.0),
                stage("b", "arm 2 of 2", 30.0),
            ],
            ..Forecast::default()
        });
        whole
    }

    #[test]
    fn the_rest_of_a_run_is_the_rest_of_its_stage_and_what_comes_after() {
        let mut whole = planned();
        assert_eq!(whole.place(None, 0.0), None);
        whole.begin("check");
        assert_eq!(whole.place(None, 0.0), None, "what is no stage is no part of the run");
        whole.begin("a-unlearn");
        assert_eq!(whole.place(None, 0.5).unwrap(), "stage 2 of 3, arm 1 of 2, about 1m 00s left");
        let left = Some(Duration::from_secs(90));
        assert_eq!(whole.place(left, 0.5).unwrap(), "stage 2 of 3, arm 1 of 2, about 2m 00s left");
    }

    /// A machine that is busy with other things takes twice as long for what comes, too.
    #[test]
    fn what_took_longer_than_forecast_will_go_on_doing_so() {
        let mut whole = planned();
        whole.current = Instant::now().checked_sub(Duration::from_secs(20)).map(|began| (0, began));
        whole.finish("base", 1.0);
        whole.begin("a-unlearn");
        assert_eq!(whole.place(None, 0.0).unwrap(), "stage 2 of 3, arm 1 of 2, about 3m 00s left");
    }
}
