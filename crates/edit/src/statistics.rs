//! What keys look like in general: the second moment C = E[k kᵀ] of a layer's keys over any text.

use std::path::Path;
use std::sync::OnceLock;

use amend_engine::kernels::linalg::{Matrix, cholesky, solve_factored, symmetric_eigen};
use amend_engine::{Batch, Example, Graph, Model, SCORING_TOKENS, Taps, split_by_tokens};
use amend_learn::{Error, Result};
use amend_run::file::write_atomic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reading::key_site;

/// How the second moment is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Tokens of the text that are read at most, from its beginning. Well above a layer's width, the moment has full rank.
    #[schemars(range(min = 1))]
    pub tokens: usize,
    /// A share of the mean square of a coordinate that is added to every one of them, so that directions which the text
    /// never took have an inverse.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub ridge: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { tokens: 100_000, ridge: 1e-4 }
    }
}

/// What the statistics of a layer were taken of; other statistics than those of the same are not taken for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// SHA-256 of the model.
    pub model: String,
    /// The layer.
    pub layer: usize,
    /// SHA-256 of the token sequences.
    pub text: String,
}

/// The second moment of one layer's keys, and what follows from it, computed when it is asked for.
#[derive(Debug)]
pub struct Statistics {
    moment: Matrix,
    /// What was added to its diagonal.
    added: f64,
    factor: OnceLock<Matrix>,
    /// The projection on what is below the threshold that was asked for first, and its rank.
    unused: OnceLock<(Matrix, usize)>,
}

impl Statistics {
    /// From a moment [f, f]; `ridge` as in [`Sampling`].
    pub fn new(mut moment: Matrix, ridge: f64) -> Self {
        let width = moment.rows();
        let trace: f64 = (0..width).map(|i| moment.at(i, i)).sum();
        let added = ridge * trace / width.max(1) as f64;
        (0..width).for_each(|i| moment.row_mut(i)[i] += added);
        Statistics { moment, added, factor: OnceLock::new(), unused: OnceLock::new() }
    }

    /// C [f, f], the ridge included.
    pub fn moment(&self) -> &Matrix {
        &self.moment
    }

    /// C⁻¹·X for the columns X [f, n].
    ///
    /// # Errors
    /// Where C is not positive definite, or X does not fit.
    pub fn whitened(&self, x: &Matrix) -> amend_engine::Result<Matrix> {
        let factor = match self.factor.get() {
            Some(factor) => factor,
            None => {
                let made = cholesky(&self.moment)?;
                self.factor.get_or_init(|| made)
            }
        };
        Ok(solve_factored(factor, x)?)
    }

    /// P = U·Uᵀ [f, f], U the eigenvectors of C with an eigenvalue below `threshold`, the ridge left out: what keys hardly
    /// ever use. And how many they are. A run asks for one threshold.
    ///
    /// # Errors
    /// Where C holds what is no finite number.
    pub fn unused(&self, threshold: f64) -> amend_engine::Result<&(Matrix, usize)> {
        if let Some(known) = self.unused.get() {
            return Ok(known);
        }
        let eigen = symmetric_eigen(&self.moment)?;
        let is_unused = |i: &usize| eigen.values[*i] - self.added < threshold;
        let chosen: Vec<usize> = (0..eigen.values.len()).filter(is_unused).collect();
        let rows: Vec<f64> = chosen.iter().flat_map(|&i| eigen.vectors.row(i).iter().copied()).collect();
        let basis = Matrix::new(chosen.len(), self.moment.rows(), rows)?;
        let made = (basis.transposed().times(&basis)?, chosen.len());
        Ok(self.unused.get_or_init(|| made))
    }
}

/// Reads texts and takes the second moment of the keys of a layer, in f64 and in the order of the texts.
///
/// # Errors
/// Where the model cannot read a text; a layer without keys.
pub fn second_moment(model: &Model, layer: usize, texts: &[Example]) -> Result<Matrix> {
    model.down_projection(layer)?;
    let site = key_site(layer);
    let lengths: Vec<usize> = texts.iter().map(|text| text.ids.len()).collect();
    let mut sum: Option<Matrix> = None;
    for piece in split_by_tokens(&lengths, SCORING_TOKENS)? {
        let mut taps = Taps::none();
        taps.read(site);
        let batch = Batch::new(&texts[piece])?;
        model.hidden(&mut Graph::inference(&model.params), &batch, &taps)?;
        for reading in taps.take(site) {
            let keys = Matrix::from_tensor(&reading.tensor);
            let part = keys.transposed().times(&keys).map_err(amend_engine::Error::from)?;
            match &mut sum {
                None => sum = Some(part),
                Some(sum) => sum.values_mut().iter_mut().zip(part.values()).for_each(|(sum, x)| *sum += x),
            }
        }
    }
    let tokens: usize = lengths.iter().sum();
    let mut sum =
        sum.ok_or_else(|| Error::invalid("there is no text to take the statistics of keys from"))?;
    sum.values_mut().iter_mut().for_each(|x| *x /= tokens as f64);
    Ok(sum)
}

/// Writes a moment to `layer-N.moment` of the folder `dir`: a line of JSON that says what it is of, then its numbers, f64 in
/// little-endian order.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(dir: &Path, origin: &Origin, moment: &Matrix) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| amend_engine::Error::io(dir, "cannot create", e))?;
    let mut bytes = serde_json::to_vec(origin).map_err(|e| Error::invalid(e.to_string()))?;
    bytes.push(b'\n');
    bytes.extend(moment.values().iter().flat_map(|x| x.to_le_bytes()));
    Ok(write_atomic(&file(dir, origin.layer), &bytes)?)
}

/// Reads what `write` wrote, where it is of this origin; nothing where it is of another, or not there.
///
/// # Errors
/// Where the file cannot be read or is damaged.
pub fn read(dir: &Path, origin: &Origin) -> Result<Option<Matrix>> {
    let path = file(dir, origin.layer);
    let bytes = match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|e| amend_engine::Error::io(&path, "cannot read", e))?,
    };
    let damaged = || Error::invalid(format!("{}: no statistics of keys; remove the file", path.display()));
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or_else(damaged)?;
    let said: Origin = serde_json::from_slice(&bytes[..end]).map_err(|_| damaged())?;
    if said != *origin {
        return Ok(None);
    }
    let (numbers, rest) = bytes[end + 1..].as_chunks::<8>();
    let width = numbers.len().isqrt();
    if !rest.is_empty() || width * width != numbers.len() {
        return Err(damaged());
    }
    let values = numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    Ok(Some(Matrix::new(width, width, values).map_err(amend_engine::Error::from)?))
}

fn file(dir: &Path, layer: usize) -> std::path::PathBuf {
    dir.join(format!("layer-{layer}.moment"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model() -> Model {
        let config = json!({
            "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": 10, "vocab_size": 30, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "initializer_range": 0.4,
        });
        Model::random(config.as_object().unwrap().clone(), 5).unwrap()
    }

    #[test]
    fn the_moment_is_the_mean_over_all_tokens() {
        let model = model();
        let texts = [Example::text(vec![1, 2, 3, 4]), Example::text(vec![9, 8, 7])];
        let whole = second_moment(&model, 1, &texts).unwrap();
        let parts: Vec<Matrix> =
            texts.iter().map(|text| second_moment(&model, 1, std::slice::from_ref(text)).unwrap()).collect();
        for (i, x) in whole.values().iter().enumerate() {
            let expected = (4.0 * parts[0].values()[i] + 3.0 * parts[1].values()[i]) / 7.0;
            assert!((x - expected).abs() < 1e-12);
        }
        assert!((whole.at(2, 5) - whole.at(5, 2)).abs() < 1e-15);
        assert!(second_moment(&model, 2, &texts).unwrap_err().to_string().contains("no layer 2"));
        assert!(second_moment(&model, 1, &[]).is_err());
    }

    #[test]
    fn whitening_is_the_inverse_and_the_ridge_makes_one() {
        let mut moment = Matrix::zeros(3, 3);
        moment.row_mut(0)[0] = 4.0;
        moment.row_mut(1)[1] = 2.0;
        // The third direction was never taken; the mean square of a coordinate is 2.
        let statistics = Statistics::new(moment, 0.5);
        let found = statistics.whitened(&Matrix::new(3, 1, vec![10.0, 3.0, 1.0]).unwrap()).unwrap();
        for (x, expected) in found.values().iter().zip([2.0, 1.0, 1.0]) {
            assert!((x - expected).abs() < 1e-12, "{found:?}");
        }
        let (projection, rank) = statistics.unused(2e-2).unwrap();
        assert_eq!((*rank, projection.at(2, 2).round(), projection.at(0, 0).round()), (1, 1.0, 0.0));
    }

    #[test]
    fn statistics_are_read_to_the_bit_and_only_of_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let moment = second_moment(&model(), 0, &[Example::text(vec![1, 2, 3])]).unwrap();
        let origin = Origin { model: "m".into(), layer: 0, text: "t".into() };
        write(folder.path(), &origin, &moment).unwrap();
        assert_eq!(read(folder.path(), &origin).unwrap().unwrap().values(), moment.values());
        let other = Origin { model: "n".into(), ..origin.clone() };
        assert!(read(folder.path(), &other).unwrap().is_none());
        assert!(read(folder.path(), &Origin { layer: 1, ..origin.clone() }).unwrap().is_none());
        let path = folder.path().join("layer-0.moment");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        assert!(read(folder.path(), &origin).unwrap_err().to_string().contains("layer-0.moment"));
    }
}
