//! The files that start zot on a site's own machine. Pulls nothing and starts nothing.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::disk::Existing;
use crate::disk::file_set;
use crate::error::{Error, Kind, Result};
use crate::oci::Reference;
use crate::render::compose::Compose;
use crate::render::zot;

pub use crate::render::zot::SearchExtension;

const CONFIG: &str = "zot-config.json";
const COMPOSE: &str = "docker-compose.zot.yml";

/// Default folder of the data, beside the compose file.
const DATA: &str = "./zot-data";

/// The zot to start.
#[derive(Debug)]
pub struct Bootstrap {
    /// Folder for the two files.
    pub out: PathBuf,
    /// The port on the host.
    pub port: u16,
    /// Folder of zot's data; `None` is `zot-data` beside the files.
    pub data_dir: Option<PathBuf>,
    /// Whether zot's search extension is enabled.
    pub search: SearchExtension,
    /// The image to run; `None` is a pinned release of zot.
    pub image: Option<Reference>,
    /// Whether files that exist are kept or replaced.
    pub existing: Existing,
}

/// The files that were written.
#[derive(Debug, Serialize)]
pub struct Bootstrapped {
    /// zot's configuration.
    pub config: PathBuf,
    /// The compose file.
    pub compose: PathBuf,
    /// The image that it runs.
    pub image: Reference,
    /// The port on the host.
    pub port: u16,
    /// The folder of the data, as this process sees it.
    pub data_dir: PathBuf,
}

/// Writes zot's configuration and the compose file.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) for an image that is not pinned, a data folder whose name is not Unicode, and files that are to
/// be kept; [`Local`](Kind::Local) if the disk refuses.
pub fn bootstrap(request: &Bootstrap) -> Result<Bootstrapped> {
    let image = match &request.image {
        Some(image) => image.clone(),
        None => zot::IMAGE.parse().map_err(|why| Error::new(Kind::Usage, "use the image").because(why))?,
    };
    if !image.is_pinned() {
        // A site must run the same image tomorrow.
        let error = Error::new(Kind::Usage, "the image of --image is not pinned").on(&image);
        return Err(error.hint(format!("name a version or a digest, such as {}", zot::IMAGE)));
    }
    let data_dir = request.data_dir.as_deref().map_or_else(|| Ok(DATA.to_owned()), absolute)?;
    let config = format!("./{CONFIG}");
    let compose = Compose { image: &image, port: request.port, config: &config, data: &data_dir }.render();
    let texts = [(CONFIG, zot::config(request.port, request.search)), (COMPOSE, compose)];
    file_set::write(&request.out, &texts, request.existing)?;
    let [config, compose] = [CONFIG, COMPOSE].map(|name| request.out.join(name));
    // The compose file's paths begin at its own folder.
    let data_dir = request.out.join(data_dir.strip_prefix("./").unwrap_or(&data_dir));
    Ok(Bootstrapped { config, compose, image, port: request.port, data_dir })
}

/// Makes the path absolute: the compose file may be in another folder than this process.
fn absolute(path: &Path) -> Result<String> {
    let refused = |why: String| Error::new(Kind::Usage, "use the folder of --data-dir").on(path.display()).because(why);
    let absolute = std::path::absolute(path).map_err(|why| refused(why.to_string()))?;
    let text =
        absolute.to_str().ok_or_else(|| refused("its name is not Unicode, as a compose file has to be".into()))?;
    Ok(text.to_owned())
}
