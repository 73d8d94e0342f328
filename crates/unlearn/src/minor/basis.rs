//! Bases of dominant components, one for every site, collected once for all who ask.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use amend_engine::checkpoint::write_tensors;
use amend_engine::kernels::linalg::{Matrix, Moments, Principal, away_from, orthonormalised};
use amend_engine::{
    Batch, Error, Example, Graph, Model, Result, SCORING_TOKENS, Site, Taps, Tensor, Var, split_by_tokens,
};
use serde_json::json;

use super::{Minor, Projection};
use crate::context::{Context, Side};
use crate::features::{Sampled, kept};

/// The file that a run keeps an arm's bases in.
const FILE: &str = "minor_basis.safetensors";

/// The dominant components of the hidden states at one site.
#[derive(Clone, Debug)]
pub struct MinorBasis {
    /// The site.
    pub site: Site,
    /// Mean, variances and principal directions of the states; no more directions than were asked for.
    pub principal: Principal,
    /// How many tokens they were found at.
    pub tokens: usize,
    /// What is taken off: an orthonormal basis [k, d], or components that each have length one and are taken off in turn.
    components: Matrix,
    projection: Projection,
}

impl Context<'_> {
    /// The bases of sites, of the model that is to forget, on the forget set. The sites need not be behind one another.
    ///
    /// # Errors
    /// Where more components are asked for than a state has, or no token is there to find them at.
    pub fn minor(&self, minor: &Minor, sites: &[Site]) -> Result<Rc<Vec<MinorBasis>>> {
        let key = (json!(minor).to_string(), sites.to_vec());
        kept(&self.features.minor, key, || self.collect(minor, sites))
    }

    fn collect(&self, minor: &Minor, sites: &[Site]) -> Result<Vec<MinorBasis>> {
        let d = self.reference.spec().hidden;
        if minor.k > d {
            return Err(Error::invalid(format!(
                "minor: k = {} of hidden states that have {d} components; give fewer",
                minor.k
            )));
        }
        let moments = self.moments(minor, sites)?;
        let of_site = |(moments, &site): (&Moments, &Site)| {
            let count = minor.k.saturating_sub(1);
            let principal = match self.is_rehearsal {
                false => moments.principal(count)?,
                // Any directions cost a step what the right ones cost, and are there at once.
                true => Principal {
                    mean: moments.mean(),
                    variances: vec![0.0; d],
                    directions: Matrix::identity(count, d),
                },
            };
            MinorBasis::of(minor, site, principal, moments.count())
        };
        moments.iter().zip(sites).map(of_site).collect()
    }

    /// Moments of the reference's states at sites, at the tokens that `minor` means.
    fn moments(&self, minor: &Minor, sites: &[Site]) -> Result<Vec<Moments>> {
        let mut moments = vec![Moments::new(self.reference.spec().hidden); sites.len()];
        self.each_state(minor, sites, |at, states| Ok(moments[at].add(states)?))?;
        match moments.first().is_some_and(|moments| moments.count() == 0) {
            true => Err(Error::invalid(
                "minor: no token of the forget set is left to find components at; lower `cut_off_tokens`, or take \
                 tokens = \"text\"",
            )),
            false => Ok(moments),
        }
    }

    /// The mean length of what is left of the reference's states on the forget set away from dominant components, site by site.
    pub fn minor_lengths(&self, minor: &Minor, sites: &[Site]) -> Result<Rc<Vec<f64>>> {
        let key = (json!(minor).to_string(), sites.to_vec());
        kept(&self.features.minor_lengths, key, || {
            let bases = self.minor(minor, sites)?;
            let (mut sums, mut counts) = (vec![0.0; sites.len()], vec![0usize; sites.len()]);
            self.each_state(minor, sites, |at, states| {
                let left = bases[at].left_of(states)?;
                sums[at] += (0..left.rows()).map(|i| length(left.row(i))).sum::<f64>();
                counts[at] += left.rows();
                Ok(())
            })?;
            Ok(sums.iter().zip(counts).map(|(sum, count)| sum / count.max(1) as f64).collect())
        })
    }

    /// Shows `see` the states of the reference at every site, by its place in the list, some thousand tokens at a time.
    fn each_state(
        &self,
        minor: &Minor,
        sites: &[Site],
        see: impl FnMut(usize, &Matrix) -> Result<()>,
    ) -> Result<()> {
        let items = self.sample(&Sampled { side: Side::Forget, sequences: minor.sequences, layers: &[] })?;
        let mut chosen = Vec::with_capacity(items.len());
        for &item in &items {
            let mut positions = self.positions(Side::Forget, item, minor.tokens)?;
            positions.retain(|&position| position >= minor.cut_off_tokens);
            chosen.push((&self.forget[item], positions));
        }
        each_state(self.reference, &chosen, sites, see)
    }
}

/// Shows `see` what a model holds at sites, by their place in the list, at the given positions of sequences.
pub(super) fn each_state(
    model: &Model,
    chosen: &[(&Example, Vec<usize>)],
    sites: &[Site],
    mut see: impl FnMut(usize, &Matrix) -> Result<()>,
) -> Result<()> {
    let lengths: Vec<usize> = chosen.iter().map(|(example, _)| example.ids.len()).collect();
    for piece in split_by_tokens(&lengths, SCORING_TOKENS)? {
        let chosen = &chosen[piece];
        let batch = Batch::new(chosen.iter().map(|(example, _)| *example))?;
        let starts = batch.layout.sequences.iter().map(|rows| rows.start);
        let rows: Vec<usize> =
            starts.zip(chosen).flat_map(|(start, (_, at))| at.iter().map(move |at| start + at)).collect();
        each_site(model, &batch, sites, |at, tensor| see(at, &rows_of(&tensor, &rows)))?;
    }
    Ok(())
}

/// Shows `see` what a model holds at sites of its blocks, by their place in the list, while it reads a batch: [T, d]. The
/// blocks behind the last site are not run.
pub(crate) fn each_site(
    model: &Model,
    batch: &Batch,
    sites: &[Site],
    mut see: impl FnMut(usize, Tensor) -> Result<()>,
) -> Result<()> {
    let mut taps = Taps::none();
    for &site in sites {
        taps.read(site);
    }
    let deepest = sites.iter().map(|site| layer_of(*site)).max().unwrap_or(0);
    model.residual(&mut Graph::inference(&model.params), batch, deepest, &taps)?;
    for (at, &site) in sites.iter().enumerate() {
        taps.take(site).into_iter().try_for_each(|reading| see(at, reading.tensor))?;
    }
    Ok(())
}

/// The block that a site is in; sites outside of blocks are before the first.
pub(crate) fn layer_of(site: Site) -> usize {
    match site {
        Site::Block(layer, _) => layer,
        _ => 0,
    }
}

/// Some rows of a tensor, in f64.
pub(crate) fn rows_of(tensor: &Tensor, rows: &[usize]) -> Matrix {
    let width = tensor.columns();
    let mut out = Matrix::zeros(rows.len(), width);
    for (i, &row) in rows.iter().enumerate() {
        let values = &tensor.f32()[row * width..(row + 1) * width];
        out.row_mut(i).iter_mut().zip(values).for_each(|(out, &value)| *out = f64::from(value));
    }
    out
}

/// ‖x‖, in f64: squares of large states are more than half precision holds.
pub(crate) fn length(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

impl MinorBasis {
    pub(super) fn of(minor: &Minor, site: Site, principal: Principal, tokens: usize) -> Result<Self> {
        let d = principal.mean.len();
        // The mean counts as one.
        let mut components = if minor.k > 0 { principal.mean.clone() } else { Vec::new() };
        components.extend_from_slice(principal.directions.values());
        let mut components = Matrix::new(components.len() / d.max(1), d, components)?;
        match minor.projection {
            Projection::Orthonormal => components = orthonormalised(&components)?,
            Projection::Sequential => (0..components.rows()).for_each(|i| {
                let length = length(components.row(i)).max(f64::MIN_POSITIVE);
                components.row_mut(i).iter_mut().for_each(|x| *x /= length);
            }),
        }
        Ok(MinorBasis { site, principal, tokens, components, projection: minor.projection })
    }

    /// What is taken off: orthonormal rows, or rows of length one that are taken off in turn. [k, d]
    pub fn components(&self) -> &Matrix {
        &self.components
    }

    /// The components that are taken off together, one set after the other.
    fn in_turn(&self) -> Vec<Matrix> {
        let of_row = |i: usize| Matrix::new(1, self.components.columns(), self.components.row(i).to_vec());
        match self.projection {
            Projection::Sequential => (0..self.components.rows()).filter_map(|i| of_row(i).ok()).collect(),
            Projection::Orthonormal if self.components.rows() == 0 => Vec::new(),
            Projection::Orthonormal => vec![self.components.clone()],
        }
    }

    /// What is left of states [n, d] away from the dominant components.
    pub fn left_of(&self, states: &Matrix) -> Result<Matrix> {
        let mut left = states.clone();
        for together in self.in_turn() {
            left = away_from(&left, &together)?;
        }
        Ok(left)
    }

    /// The same of a value of a graph.
    pub fn left_in(&self, g: &mut Graph<'_>, states: &Var) -> Result<Var> {
        let mut left = states.clone();
        for together in self.in_turn() {
            let (q, across) = (together.to_tensor(), together.transposed().to_tensor());
            let along = g.matmul(&left, &Var::constant(across))?;
            let dominant = g.matmul(&along, &Var::constant(q))?;
            left = g.sub(&left, &dominant)?;
        }
        Ok(left)
    }

    /// Takes the dominant components off the columns of a matrix [d, n], or of a vector `[d]`: afterwards it writes, or is,
    /// in what is left alone.
    pub fn leave_in_columns(&self, tensor: &mut Tensor) -> Result<()> {
        let (d, n) = (tensor.shape()[0], tensor.len() / tensor.shape()[0].max(1));
        let values = tensor.f32().iter().map(|&x| f64::from(x)).collect();
        let columns = Matrix::new(d, n, values)?.transposed();
        let left = self.left_of(&columns)?.transposed();
        tensor.f32_mut().iter_mut().zip(left.values()).for_each(|(out, &x)| *out = x as f32);
        Ok(())
    }
}

/// Where the bases of the model in `dir` go.
pub(crate) fn minor_dir(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push("-minor");
    dir.with_file_name(name)
}

/// Writes the bases of slots beside the model in `dir`: of every site `components` `[k, d]`, `mean` `[d]` and `eigenvalues`
/// `[d]`, in f32, called by slot and site.
pub(crate) fn write_bases(of_slots: &[(&str, Rc<Vec<MinorBasis>>)], dir: &Path) -> Result<()> {
    let (dir, mut tensors) = (minor_dir(dir), Vec::new());
    let vector = |values: &[f64]| {
        let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        Tensor::from_f32(&values, &[values.len()])
    };
    let mut metadata = BTreeMap::new();
    let all = of_slots.iter().flat_map(|(slot, bases)| bases.iter().map(move |basis| (slot, basis)));
    for (slot, basis) in all {
        let site = format!("{slot}.{}", basis.site);
        tensors.push((format!("{site}.components"), basis.components.to_tensor()));
        tensors.push((format!("{site}.mean"), vector(&basis.principal.mean)?));
        tensors.push((format!("{site}.eigenvalues"), vector(&basis.principal.variances)?));
        metadata.insert(format!("{site}.tokens"), basis.tokens.to_string());
        metadata.insert(format!("{site}.projection"), format!("{:?}", basis.projection).to_lowercase());
    }
    std::fs::create_dir_all(&dir).map_err(|e| Error::io(&dir, "cannot create", e))?;
    write_tensors(dir.join(FILE), &tensors, &metadata)
}
