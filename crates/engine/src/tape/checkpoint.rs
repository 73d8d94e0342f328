//! Activation checkpointing: keep a block's input, recompute the rest when its gradient is due.

use super::{Graph, Var};
use crate::Result;

impl<'m> Graph<'m> {
    /// `block(x)`, holding only x until the backward pass runs the block a second time.
    ///
    /// Arithmetic is deterministic, so the second run gives the same bits as the first (Chen et al.,
    /// arXiv 1604.06174).
    pub fn checkpoint(
        &mut self,
        x: &Var,
        block: impl Fn(&mut Graph<'m>, &Var) -> Result<Var> + 'm,
    ) -> Result<Var> {
        if !self.recording {
            return block(self, x);
        }
        let params = self.params;
        let value = block(&mut Graph::inference(params), x)?.value;
        let input = x.clone();
        Ok(self.push(value, true, move |back, gradient| {
            let mut inner = Graph::recording(params);
            inner.replaying = true;
            // Node 0 stands for the block's input, so that what reaches it can be handed on.
            let start = inner.push(input.value.clone(), true, |_, _| Ok(()));
            let output = block(&mut inner, &start)?;
            let reached = inner.run_backward(&output, gradient, back.gradients)?;
            match reached {
                Some(gradient) => back.add(&input, gradient),
                None => Ok(()),
            }
        }))
    }
}
