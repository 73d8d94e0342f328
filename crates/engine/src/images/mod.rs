//! Images as models want them: read, resized, cropped, normalised, as `preprocessor_config.json` says.

mod decode;
mod picture;
mod resample;

use std::path::Path;

use serde_json::{Map, Value};

pub use picture::Picture;
pub use resample::Filter;

use crate::json::read_object_if_there;
use crate::{Error, Result, Tensor};

/// Pixels beyond which a resized picture is refused: a strip of one pixel's width would fill the memory.
const LARGEST_RESIZED: usize = 1 << 26;

/// How a picture becomes the pixel values a model reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Preparation {
    /// The size it is brought to first.
    pub resize: Option<Target>,
    /// How it is resampled for that.
    pub filter: Filter,
    /// [height, width] that are cut from the middle; what is missing is black.
    pub crop: Option<[usize; 2]>,
    /// What the values 0 to 255 are multiplied by.
    pub rescale: Option<f64>,
    /// Mean and standard deviation of every channel; the first is subtracted, then the second divides.
    pub normalize: Option<(Vec<f32>, Vec<f32>)>,
}

/// A size to resize to, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Exactly [height, width].
    Exactly([usize; 2]),
    /// The shorter edge, the other in proportion.
    ShortestEdge(usize),
}

impl Preparation {
    /// ViT's own: resized without regard to proportions, bilinear, from −1 to 1.
    pub fn vit(image: [usize; 2], channels: usize) -> Self {
        Preparation {
            resize: Some(Target::Exactly(image)),
            filter: Filter::Bilinear,
            crop: None,
            rescale: Some(1.0 / 255.0),
            normalize: Some((vec![0.5; channels], vec![0.5; channels])),
        }
    }

    /// CLIP's own: the shorter edge to size, bicubic, the middle cut out, its own mean and deviation.
    pub fn clip(image: [usize; 2]) -> Self {
        Preparation {
            resize: Some(Target::ShortestEdge(image[0].min(image[1]))),
            filter: Filter::Bicubic,
            crop: Some(image),
            rescale: Some(1.0 / 255.0),
            normalize: Some((
                vec![0.481_454_66, 0.457_827_5, 0.408_210_73],
                vec![0.268_629_54, 0.261_302_6, 0.275_777_1],
            )),
        }
    }

    /// What `preprocessor_config.json` in `dir` says, or the part of `processor_config.json` about images;
    /// `default` where there is neither or it does not say.
    pub fn read(dir: &Path, default: Preparation) -> Result<Self> {
        let (alone, part) = (dir.join("preprocessor_config.json"), dir.join("processor_config.json"));
        let (path, config) = match read_object_if_there(&alone)? {
            Some(config) => (alone, config),
            None => match read_object_if_there(&part)?.and_then(|mut all| all.remove("image_processor")) {
                Some(Value::Object(config)) => (part, config),
                _ => return Ok(default),
            },
        };
        let read = Reader { path: &path, config: &config };
        let on = |key: &str, default: bool| config.get(key).and_then(Value::as_bool).unwrap_or(default);
        let resize = read.size("size")?.or(default.resize);
        let crop = match read.size("crop_size")? {
            Some(Target::Exactly(size)) => Some(size),
            Some(Target::ShortestEdge(edge)) => Some([edge, edge]),
            None => default.crop,
        };
        let (mean, deviation) = match default.normalize {
            Some((mean, deviation)) => (Some(mean), Some(deviation)),
            None => (None, None),
        };
        let normalize = match (read.numbers("image_mean")?.or(mean), read.numbers("image_std")?.or(deviation))
        {
            (Some(mean), Some(deviation)) => Some((mean, deviation)),
            _ => None,
        };
        let factor = config.get("rescale_factor").and_then(Value::as_f64).or(default.rescale);
        Ok(Preparation {
            filter: match config.get("resample").and_then(Value::as_u64) {
                Some(code) => Filter::of_code(code)
                    .ok_or_else(|| read.error(format!("\"resample\" is {code}; 0 to 5 are known")))?,
                None => default.filter,
            },
            crop: crop.filter(|_| on("do_center_crop", default.crop.is_some())),
            rescale: factor.filter(|_| on("do_rescale", true)),
            normalize: normalize.filter(|_| on("do_normalize", true)),
            resize: resize.filter(|_| on("do_resize", true)),
        })
    }

    /// The pixel values of one picture: [channels, height, width].
    pub fn apply(&self, picture: &Picture) -> Result<Tensor> {
        let mut picture = match self.resize.map(|target| target.of(picture.height, picture.width)) {
            Some([height, width]) if height.saturating_mul(width) > LARGEST_RESIZED => {
                return Err(Error::invalid(format!(
                    "a picture of {} × {} pixels would be resized to {height} × {width}; cut it first",
                    picture.height, picture.width
                )));
            }
            Some(size) => picture.resized(size, self.filter),
            None => picture.clone(),
        };
        if let Some(size) = self.crop {
            picture = picture.cropped(size);
        }
        let channels = picture.channels;
        if let Some((mean, deviation)) = &self.normalize
            && (mean.len() != channels || deviation.len() != channels)
        {
            return Err(Error::invalid(format!(
                "image_mean and image_std have {} and {} values for a picture of {channels} channels",
                mean.len(),
                deviation.len()
            )));
        }
        let area = picture.height * picture.width;
        Ok(Tensor::build(&[channels, picture.height, picture.width], |out| {
            for (i, value) in out.iter_mut().enumerate() {
                let (channel, place) = (i / area, i % area);
                let byte = f64::from(picture.bytes[place * channels + channel]);
                let scaled = self.rescale.map_or(byte, |factor| byte * factor) as f32;
                *value = match &self.normalize {
                    Some((mean, deviation)) => (scaled - mean[channel]) / deviation[channel],
                    None => scaled,
                };
            }
        }))
    }
}

impl Target {
    /// [height, width] of a picture of this size after resizing.
    fn of(self, height: usize, width: usize) -> [usize; 2] {
        match self {
            Target::Exactly(size) => size,
            Target::ShortestEdge(edge) if width <= height => [(edge * height / width).max(1), edge],
            Target::ShortestEdge(edge) => [edge, (edge * width / height).max(1)],
        }
    }
}

struct Reader<'a> {
    path: &'a Path,
    config: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn error(&self, message: String) -> Error {
        Error::format(self.path, message)
    }

    /// A number, or an object with height and width or the shortest edge.
    fn size(&self, key: &str) -> Result<Option<Target>> {
        let Some(value) = self.config.get(key).filter(|v| !v.is_null()) else { return Ok(None) };
        let pixels = |value: &Value| value.as_u64().filter(|n| (1..=1 << 14).contains(n)).map(|n| n as usize);
        let of = |key: &str| value.get(key).and_then(pixels);
        let target = match (pixels(value), of("height"), of("width"), of("shortest_edge")) {
            // What one number means depended on the model: CLIP's is an edge.
            (Some(edge), ..) if self.is_clip() => Some(Target::ShortestEdge(edge)),
            (Some(edge), ..) => Some(Target::Exactly([edge; 2])),
            (_, Some(height), Some(width), _) => Some(Target::Exactly([height, width])),
            (.., Some(edge)) if value.get("longest_edge").is_none_or(Value::is_null) => {
                Some(Target::ShortestEdge(edge))
            }
            _ => None,
        };
        let known = "a number of pixels, height and width, or shortest_edge";
        target.map(Some).ok_or_else(|| self.error(format!("\"{key}\" is {value}; {known} are supported")))
    }

    fn is_clip(&self) -> bool {
        let kinds = ["image_processor_type", "feature_extractor_type"];
        kinds.iter().any(|k| self.config.get(*k).and_then(Value::as_str).is_some_and(|v| v.contains("CLIP")))
    }

    fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>> {
        let Some(value) = self.config.get(key).filter(|v| !v.is_null()) else { return Ok(None) };
        let list = value.as_array().and_then(|l| l.iter().map(|v| Some(v.as_f64()? as f32)).collect());
        list.map(Some).ok_or_else(|| self.error(format!("\"{key}\" must be a list of numbers")))
    }
}
