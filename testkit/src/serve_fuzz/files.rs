//! Checks of the data folder itself, without the server.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use autonomy_registry::oci::{Digest, Manifest, MediaType};
use serde_json::Value;

use super::world::World;

/// Asserts that every blob matches its name, and that every manifest listed by a repository is present and valid. Returns
/// the number of blobs.
pub fn check(world: &World, data: &Path) -> usize {
    let (mut held, mut indexes) = (HashSet::new(), Vec::new());
    for file in files(data) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder =
            |up: usize| file.ancestors().nth(up).and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        if name == "index.json" && folder(1) == "_layout" {
            indexes.push(file);
        } else if folder(2) == "blobs" && ["sha256", "sha512"].contains(&&*folder(1)) && !name.starts_with('.') {
            let named = format!("{}:{name}", folder(1)).parse::<Digest>();
            let bytes = std::fs::read(&file).unwrap();
            match named {
                Ok(named) if named.matches(&bytes) => drop(held.insert((named, file.clone()))),
                named => world.fault(&format!("{} is not {named:?}: {} bytes", file.display(), bytes.len()), &[]),
            }
        }
    }
    let paths: std::collections::HashMap<Digest, &PathBuf> =
        held.iter().map(|(digest, path)| (*digest, path)).collect();
    for index in indexes {
        let listed = std::fs::read(&index).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let Some(listed) = listed.as_ref().and_then(|listed| listed["manifests"].as_array()) else {
            world.fault(&format!("{} is no index", index.display()), &[]);
            continue;
        };
        for node in listed {
            let digest = node["digest"].as_str().and_then(|text| text.parse::<Digest>().ok());
            let bytes = digest.and_then(|digest| paths.get(&digest)).and_then(|path| std::fs::read(path).ok());
            let media_type = MediaType::new(node["mediaType"].as_str().unwrap_or_default());
            if bytes.is_none_or(|bytes| Manifest::parse(&bytes, &media_type).is_err()) {
                world.fault(&format!("{} lists {node}, which is not there or no manifest", index.display()), &[]);
            }
        }
    }
    held.len()
}

/// Every file below `folder`; links are not followed.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}
