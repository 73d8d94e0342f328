//! What fillers carry from one step to the next, under names of their own.

use std::collections::BTreeMap;

use amend_engine::{Gradients, Params};
use amend_learn::{Result, StateReader, StateWriter};

const NUMBERS: &str = "memory.numbers";
const GRADIENTS: &str = "memory.gradients";

/// What the fillers of an arm remember: multipliers, counters, running means. It is part of every checkpoint, so that an
/// interrupted arm goes on as if it had not been. A step that is given up leaves it as it was.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    numbers: BTreeMap<String, f64>,
    gradients: BTreeMap<String, Gradients>,
}

impl Memory {
    /// A number; `None` before one was kept under this name.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.numbers.get(name).copied()
    }

    /// Keeps a number.
    pub fn keep_number(&mut self, name: &str, value: f64) {
        self.numbers.insert(name.to_owned(), value);
    }

    /// One tensor for each parameter, in its shape; `None` before they were kept under this name.
    pub fn gradients(&self, name: &str) -> Option<&Gradients> {
        self.gradients.get(name)
    }

    /// Keeps one tensor for each parameter: gradients, or anything else of their shape.
    pub fn keep_gradients(&mut self, name: &str, gradients: Gradients) {
        self.gradients.insert(name.to_owned(), gradients);
    }

    /// Keeps everything in a checkpoint, tensors under the names of their parameters.
    pub(crate) fn save(&self, params: &Params, to: &mut StateWriter) -> Result<()> {
        to.value(NUMBERS, &self.numbers)?;
        to.value(GRADIENTS, &self.gradients.keys().collect::<Vec<_>>())?;
        for (name, gradients) in &self.gradients {
            for (id, tensor) in gradients.iter() {
                to.tensor(&of_param(name, &params.get(id).name), tensor);
            }
        }
        Ok(())
    }

    /// What a checkpoint kept; nothing where it was written by a version that remembered nothing.
    pub(crate) fn load(params: &Params, from: &StateReader) -> Result<Self> {
        let mut memory =
            Memory { numbers: from.value_if_any(NUMBERS)?.unwrap_or_default(), ..Memory::default() };
        let names: Vec<String> = from.value_if_any(GRADIENTS)?.unwrap_or_default();
        for name in names {
            let mut gradients = Gradients::none(params);
            for (id, param) in params.iter() {
                if let Some(tensor) = from.tensor_if_any(&of_param(&name, &param.name))? {
                    gradients.set(id, tensor);
                }
            }
            memory.gradients.insert(name, gradients);
        }
        Ok(memory)
    }
}

fn of_param(name: &str, param: &str) -> String {
    format!("memory.{name}.{param}")
}
