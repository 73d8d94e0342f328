//! Activation checkpointing: keep a block's input, recompute the rest when its gradient is due.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Graph, Routing, Var};
use crate::{Result, Tensor};

impl<'m> Graph<'m> {
    /// `block(x)`, holding only x until the backward pass runs the block a second time.
    ///
    /// Arithmetic is deterministic, so the second run gives the same bits as the first (Chen et al.,
    /// arXiv 1604.06174). What routers within the block did is kept, for their losses.
    pub fn checkpoint(
        &mut self,
        x: &Var,
        block: impl Fn(&mut Graph<'m>, &Var) -> Result<Var> + 'm,
    ) -> Result<Var> {
        if !self.recording {
            return block(self, x);
        }
        let params = self.params;
        let mut first = Graph::inference(params);
        first.keep_routings();
        let value = block(&mut first, x)?.value;
        let routings = first.routings.unwrap_or_default();
        // The block's outputs, its routers' scores among them, leave their gradients here; the node that
        // stands for the block comes before theirs, so it runs backwards when all of them are done.
        let arrived = Rc::new(RefCell::new(vec![None; 1 + routings.len()]));
        let (input, gradients) = (x.clone(), arrived.clone());
        let whole = self.push(Tensor::from_f32(&[0.0], &[])?, true, move |back, _| {
            let mut inner = Graph::recording(params);
            inner.replaying = true;
            // Node 0 stands for the block's input, so that what reaches it can be handed on.
            let start = inner.push(input.value.clone(), true, |_, _| Ok(()));
            let output = block(&mut inner, &start)?;
            let scores = inner.routings.take().unwrap_or_default().into_iter().map(|r| r.logits);
            let outputs: Vec<Var> = [output].into_iter().chain(scores).collect();
            let gradients = gradients.take();
            let seeds = outputs.into_iter().zip(gradients).filter_map(|(o, g)| Some((o, g?)));
            match inner.run_backward(seeds, back.gradients)? {
                Some(gradient) => back.add(&input, gradient),
                None => Ok(()),
            }
        });
        for (i, routing) in routings.into_iter().enumerate() {
            let logits = self.output_of(&whole, routing.logits.value, 1 + i, &arrived)?;
            self.routings.get_or_insert_default().push(Routing { logits, ..routing });
        }
        self.output_of(&whole, value, 0, &arrived)
    }

    /// Output `index` of a checkpointed block.
    fn output_of(
        &mut self,
        whole: &Var,
        value: Tensor,
        index: usize,
        arrived: &Rc<RefCell<Vec<Option<Tensor>>>>,
    ) -> Result<Var> {
        let (whole, arrived, one) = (whole.clone(), arrived.clone(), Tensor::from_f32(&[1.0], &[])?);
        Ok(self.push(value, true, move |back, gradient| {
            arrived.borrow_mut()[index] = Some(gradient);
            back.add(&whole, one)
        }))
    }
}
