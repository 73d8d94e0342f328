//! Activation checkpointing: keep a block's input, recompute the rest when its gradient is due.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Graph, Mode, Routing, Var};
use crate::{Result, Tensor};

/// Gradients of a block's outputs, left here for the node that stands for the block.
type Arrived = Rc<RefCell<Vec<Option<Tensor>>>>;

impl<'m> Graph<'m> {
    /// `block(x)`, holding only x until the backward pass runs the block a second time.
    ///
    /// Arithmetic is deterministic, so the second run gives the same bits as the first (Chen et al.,
    /// arXiv 1604.06174). There is none where nothing in the block or below it learns. What routers within
    /// the block did is kept, for their losses.
    pub fn checkpoint(
        &mut self,
        x: &Var,
        block: impl Fn(&mut Graph<'m>, &Var) -> Result<Var> + 'm,
    ) -> Result<Var> {
        if !self.makes_nodes() {
            return block(self, x);
        }
        let params = self.params;
        let mut first = Graph::new(params, Mode::Passing);
        let output = block(&mut first, x)?;
        let routings = first.routings.unwrap_or_default();
        let learns = output.needs_gradient() || routings.iter().any(|r| r.logits.needs_gradient());
        if !learns {
            self.routings.get_or_insert_default().extend(routings);
            return Ok(output);
        }
        // The block's outputs, its routers' scores among them, leave their gradients here; the node that
        // stands for the block comes before theirs, so it runs backwards when all of them are done.
        let arrived: Arrived = Rc::new(RefCell::new(vec![None; 1 + routings.len()]));
        let (below, gradients) = (x.clone(), arrived.clone());
        let whole = self.push(Tensor::from_f32(&[0.0], &[])?, true, move |back, _| {
            let mut inner = Graph::new(params, Mode::Replaying);
            let (start, leaf) = inner.input(below.value.clone());
            // Below a value that needs no gradient, none is computed.
            let start = if below.needs_gradient() { start } else { below.detach() };
            let output = block(&mut inner, &start)?;
            let scores = inner.routings.take().unwrap_or_default().into_iter().map(|r| r.logits);
            let outputs: Vec<Var> = [output].into_iter().chain(scores).collect();
            let gradients = gradients.take();
            let known = outputs.iter().zip(gradients).filter_map(|(output, g)| Some((output, g?)));
            inner.run_backward(known, back.gradients)?;
            match back.gradients.take_leaf(leaf) {
                Some(gradient) => back.add(&below, gradient),
                None => Ok(()),
            }
        });
        for (i, routing) in routings.into_iter().enumerate() {
            let logits = self.output_of(&whole, &routing.logits, 1 + i, &arrived)?;
            self.routings.get_or_insert_default().push(Routing { logits, ..routing });
        }
        self.output_of(&whole, &output, 0, &arrived)
    }

    /// Output `index` of a checkpointed block, as its first run gave it.
    fn output_of(&mut self, whole: &Var, output: &Var, index: usize, arrived: &Arrived) -> Result<Var> {
        let (whole, arrived, one) = (whole.clone(), arrived.clone(), Tensor::from_f32(&[1.0], &[])?);
        Ok(self.push(output.value.clone(), output.needs_gradient(), move |back, gradient| {
            arrived.borrow_mut()[index] = Some(gradient);
            back.add(&whole, one)
        }))
    }
}
