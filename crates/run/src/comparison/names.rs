//! What runs are called side by side.

use std::path::{Component, PathBuf};

/// The end of every path, as short as tells it from the others: `a` and `b` of `runs/a` and `runs/b`; `first/run` and
/// `second/run` where the last part is the same. The paths differ.
pub(super) fn shortest(paths: &[PathBuf]) -> Vec<String> {
    let parts = |path: &PathBuf| -> Vec<String> {
        let named = path.components().filter(|part| matches!(part, Component::Normal(_)));
        named.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let paths: Vec<Vec<String>> = paths.iter().map(parts).collect();
    let end = |path: &[String], length: usize| path[path.len().saturating_sub(length)..].join("/");
    let name = |(index, path): (usize, &Vec<String>)| {
        let others = || paths.iter().enumerate().filter(move |(other, _)| *other != index);
        let tells = |&length: &usize| others().all(|(_, other)| end(other, length) != end(path, length));
        end(path, (1..path.len()).find(tells).unwrap_or(path.len()))
    };
    paths.iter().enumerate().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[&str]) -> Vec<String> {
        shortest(&paths.iter().map(PathBuf::from).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_as_short_as_tells_them_apart() {
        assert_eq!(names(&["/w/runs/a", "/w/runs/b"]), ["a", "b"]);
        assert_eq!(
            names(&["/w/first/run", "/w/second/run", "/w/other"]),
            ["first/run", "second/run", "other"]
        );
        assert_eq!(names(&["/w/run", "/w/run/run"]), ["w/run", "run/run"]);
        assert_eq!(names(&["/run", "/a/run"]), ["run", "a/run"]);
    }
}
