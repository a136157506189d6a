use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::oci::{MediaType, Tag};
use crate::store::Store as _;

/// A point in an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// `index.json` was read, and nothing else.
    Listed,
    /// A file was opened, but not yet hashed.
    Opened,
}

/// Changes the folder at such a point, as other processes do.
#[derive(Default)]
pub(super) struct Meddler(Mutex<Option<Meddle>>);

type Meddle = Box<dyn FnMut(Moment) + Send>;

impl Meddler {
    pub(super) fn meddle(&self, moment: Moment) {
        if let Some(meddle) = &mut *self.0.lock().unwrap() {
            meddle(moment);
        }
    }
}

impl fmt::Debug for Meddler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meddler")
    }
}

fn meddled(meddle: impl FnMut(Moment) + Send + 'static) -> Hashed {
    let hashed = Hashed::new(NonZeroUsize::MIN);
    *hashed.meddler.0.lock().unwrap() = Some(Box::new(meddle));
    hashed
}

async fn put(layout: &Layout, media_type: MediaType, bytes: &[u8], tag: Option<&str>) -> Descriptor {
    let node = Descriptor::of(media_type, bytes);
    let tags: Vec<Tag> = tag.into_iter().map(|tag| tag.parse().unwrap()).collect();
    layout.put(&node, &Body::bytes(node.clone(), bytes.to_vec()), &tags).await.unwrap();
    node
}

/// Puts an image of one layer.
async fn image(layout: &Layout, salt: u32) -> (Descriptor, Descriptor) {
    let layer = put(layout, MediaType::OCI_LAYER, format!("layer {salt}").as_bytes(), None).await;
    let text = serde_json::json!({"schemaVersion": 2, "layers": [layer]}).to_string();
    let image = put(layout, MediaType::OCI_MANIFEST, text.as_bytes(), Some(&format!("v{salt}"))).await;
    (image, layer)
}

/// Deletes an image and its content, as a client and garbage collection do together.
fn delete(folder: &Path, (image, layer): &(Descriptor, Descriptor)) {
    let layout = Layout::at(folder);
    layout.inner.change(|index, _| Ok(Changed::so(index.remove(&image.digest)))).unwrap();
    for node in [image, layer] {
        assert!(layout.blob(&node.digest).remove().unwrap());
    }
}

fn is_free(folder: &Path) -> bool {
    let lock = disk::open_lock(&disk::DiskRoot::at(folder).join(".lock")).unwrap();
    disk::acquire(&lock, Hold::Alone, Duration::ZERO).is_ok()
}

#[tokio::test]
async fn an_image_that_is_deleted_during_every_look_is_not_missing() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::at(folder.path());
    let images = [image(&layout, 0).await, image(&layout, 1).await, image(&layout, 2).await];
    let (place, looks) = (folder.path().to_owned(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&looks);
    let hashed = meddled(move |moment| {
        if moment == Moment::Listed {
            let look = count.fetch_add(1, Ordering::Relaxed);
            assert_eq!(is_free(&place), look < 2, "nobody can change the list during the last look");
            if look < 2 {
                delete(&place, &images[look]);
            }
        }
    });
    let audit = layout.audit(&hashed).unwrap();
    assert!(audit.findings.is_empty(), "{:?}", audit.findings);
    assert_eq!((looks.load(Ordering::Relaxed), is_free(folder.path())), (3, true));
}

#[tokio::test]
async fn an_image_that_comes_while_a_layout_is_looked_at_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::at(folder.path());
    let (child, layer) = image(&layout, 0).await;
    delete(folder.path(), &(child.clone(), layer));
    let list = serde_json::json!({"schemaVersion": 2, "manifests": [child]}).to_string();
    put(&layout, MediaType::OCI_INDEX, list.as_bytes(), Some("sparse")).await;
    let (place, handle) = (folder.path().to_owned(), tokio::runtime::Handle::current());
    let hashed = meddled(move |moment| {
        if moment == Moment::Listed {
            let layout = Layout::at(&place);
            std::thread::scope(|scope| scope.spawn(|| handle.block_on(image(&layout, 0))).join().unwrap());
        }
    });
    let audit = blocking(move || layout.audit(&hashed)).await.unwrap();
    assert!(audit.findings.is_empty() && audit.odd.is_empty(), "{:?} {:?}", audit.findings, audit.odd);
}

#[tokio::test]
async fn damage_that_is_replaced_while_it_is_read_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::at(folder.path());
    let (_, layer) = image(&layout, 0).await;
    let place = layout.blob(&layer.digest);
    let right = place.read(99).unwrap();
    std::fs::write(place.path(), "layer X").unwrap();
    let mut is_done = false;
    let hashed = meddled(move |moment| {
        // The first opened file may be this one or another.
        if moment == Moment::Opened && !std::mem::replace(&mut is_done, true) {
            let mut file = disk::Temporary::in_folder(&place.parent()).unwrap();
            file.write_all(&right).unwrap();
            disk::publish(file, &place).unwrap();
        }
    });
    assert_eq!(hashed.one(&layout.inner.place, &layer.digest).map(|held| held.alone()), Some(None));
    assert!(layout.audit(&hashed).unwrap().findings.is_empty());
}

#[tokio::test]
async fn a_blob_is_found_by_its_name_where_its_folder_does_not_list_it() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::at(folder.path());
    let images = [image(&layout, 0).await, image(&layout, 1).await];
    let hashed = Hashed::new(NonZeroUsize::MIN);
    // As if each file were added while its folder is listed.
    let (entries, _) = index::entries_and_deleted(&layout.inner.place).unwrap();
    let mut walk = Walk::new(&layout.inner, &hashed, HashMap::new());
    walk.entries(entries);
    assert!(walk.end().findings.is_empty());
    assert_eq!(hashed.totals().0, images.len() as u64 * 2);
}
