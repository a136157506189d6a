//! A catalog as a Zarf package. Pulls nothing: Zarf does that when it creates the package.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::disk::Existing;
use crate::disk::file_set;
use crate::document::catalog::{Catalog, Entry, MAX_CATALOG_BYTES, Select, Which};
use crate::error::{Error, Kind, Result};
use crate::oci::Reference;
use crate::render::zarf;

const FILE: &str = "zarf.yaml";

/// A package to describe.
#[derive(Debug)]
pub struct ZarfPackage {
    /// The catalog.
    pub catalog: PathBuf,
    /// Folder for `zarf.yaml`.
    pub out: PathBuf,
    /// The package's name; it is made legal.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether a file that exists is kept or replaced.
    pub existing: Existing,
}

/// The package that was described.
#[derive(Debug, Serialize)]
pub struct Packaged {
    /// The file.
    pub file: PathBuf,
    /// The name in the form that Zarf accepts.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The images, each once, in the catalog's order, with the sidecars and signatures that are named by tags.
    pub images: Vec<Reference>,
    /// The images that name neither a version nor a digest.
    pub unpinned: Vec<Reference>,
}

/// Writes `zarf.yaml`.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) for an invalid catalog, or one that leaves a choice to a registry; for names and versions that
/// Zarf would refuse, and for a file that is to be kept. [`Local`](Kind::Local) if the disk refuses.
pub fn package(request: &ZarfPackage) -> Result<Packaged> {
    let ZarfPackage { catalog, out, name, version, existing } = request;
    let Some(legal) = zarf::legal_name(name) else {
        let error = Error::new(Kind::Usage, format!("{name:?} leaves nothing for a package's name"));
        return Err(error.hint("a name is made of letters, digits and hyphens"));
    };
    if !zarf::is_legal_version(version) {
        let error = Error::new(Kind::Usage, format!("{version:?} is not a package's version"));
        return Err(error.hint("it becomes a tag and part of a file's name, such as 1.2.3"));
    }
    let explained = |error: Error| error.during("package", catalog.display());
    let images = images(&read_catalog(catalog)?).map_err(explained)?;
    let text = zarf::PackageFile { name: &legal, version, images: &images }.render();
    file_set::write(out, &[(FILE, text)], *existing)?;
    let unpinned = images.iter().filter(|image| !image.is_pinned()).cloned().collect();
    Ok(Packaged { file: out.join(FILE), name: legal, version: version.clone(), images, unpinned })
}

/// Reads the catalog in the file at `path`.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) if it cannot be read, or is not a catalog.
pub fn read_catalog(path: &Path) -> Result<Catalog> {
    Catalog::parse(&catalog_text(path)?).map_err(|error| error.during("read catalog", path.display()))
}

/// Reads the text of the catalog in the file at `path`.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) if it cannot be read.
pub(crate) fn catalog_text(path: &Path) -> Result<String> {
    let unreadable = |why: io::Error| {
        Error::new(Kind::Usage, "read catalog").on(path.display()).because(why).hint("name a catalog file (YAML)")
    };
    let mut bytes = Vec::new();
    // Reads one byte past the limit: `Catalog::parse` then reports the excess.
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_CATALOG_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|why| unreadable(io::Error::other(why)))
}

/// Returns the source references, each once.
fn images(catalog: &Catalog) -> Result<Vec<Reference>> {
    let mut images: Vec<Reference> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for entry in &catalog.entries {
        for image in sources(entry)?.into_iter().flat_map(|image| with_attached(entry, image)) {
            if known.insert(image.to_string()) {
                images.push(image);
            }
        }
    }
    Ok(images)
}

/// Returns the image, the sidecars that the entry asks for, and the signature of an image that is named by digest: under
/// cosign's tag, which only the digest gives.
fn with_attached(entry: &Entry, image: Reference) -> Vec<Reference> {
    let mut tags = Vec::new();
    if let Some(tag) = image.tag.as_ref().filter(|_| entry.copy_policy) {
        tags.extend(["lock", "policy"].map(|kind| format!("{tag}-{kind}")));
    }
    if let Some(digest) = image.digest.filter(|_| entry.pub_key.is_some()) {
        tags.push(format!("{}.sig", digest.to_string().replace(':', "-")));
    }
    let attached: Vec<_> = tags.iter().filter_map(|tag| Some(image.repository.tagged(&tag.parse().ok()?))).collect();
    std::iter::once(image).chain(attached).collect()
}

fn sources(entry: &Entry) -> Result<Vec<Reference>> {
    match &entry.select {
        None => Ok(vec![entry.from.clone()]),
        Some(Select { which: Which::List(tags), latest: None }) => {
            Ok(tags.iter().map(|tag| entry.chosen(tag).0).collect())
        }
        Some(_) => {
            let why = format!("line {}: which tags of {} it means, only the registry knows", entry.line, entry.from);
            let error = Error::new(Kind::Usage, why);
            Err(error.hint("nothing is contacted to make a package: list the tags, tags: [v1, v2]"))
        }
    }
}
