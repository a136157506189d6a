//! Pages of tags and of referrers, out of the index of a layout.

use std::ops::Bound;

use super::{LayoutIndex, Referrer};
use crate::oci::{Digest, MediaType, Tag};
use crate::store::{NamesPage, ReferrersPage};

impl LayoutIndex {
    /// Returns the tags after `last`, in byte order, at most `most_bytes` together, but at least one.
    pub(in crate::store::layout) fn tags_after(&self, last: Option<&str>, most: usize, most_bytes: usize) -> NamesPage {
        NamesPage::cut(self.tags.keys().map(Tag::as_str), last, most, most_bytes)
    }

    /// Returns the referrers of `subject` after `last`, at most `most_bytes` together, but at least one.
    pub(in crate::store::layout) fn referrers_after(
        &self,
        subject: &Digest,
        last: Option<Digest>,
        artifact_type: Option<&MediaType>,
        most_bytes: usize,
    ) -> ReferrersPage {
        let is_meant = |node: &Referrer| artifact_type.is_none() || node.artifact_type.as_ref() == artifact_type;
        let found = self.attached(subject, last).filter(|(_, node)| is_meant(node));
        ReferrersPage::cut(found.map(|(digest, node)| (digest, &node.text)), most_bytes)
    }

    /// Returns the referrers of `subject` after `last`, sorted by digest.
    pub(super) fn attached(&self, subject: &Digest, last: Option<Digest>) -> impl Iterator<Item = (Digest, &Referrer)> {
        let subject = *subject;
        // The smallest possible digest.
        let first = Bound::Included((subject, Digest::Sha256([0; 32])));
        let from = last.map_or(first, |last| Bound::Excluded((subject, last)));
        let found = self.referrers.range((from, Bound::Unbounded));
        found.take_while(move |((of, _), _)| *of == subject).map(|((_, digest), node)| (*digest, node))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::oci::{Descriptor, Manifest};
    use crate::store::layout::index::{MAX_ALL_ANNOTATION_BYTES, MAX_ANNOTATION_BYTES};

    fn referrer(index: &mut LayoutIndex, n: usize, subject: &Descriptor, annotation: &str) -> Digest {
        let text = serde_json::json!({
            "schemaVersion": 2, "layers": [], "subject": subject, "annotations": {"n": n.to_string(), "text": annotation},
            "artifactType": if n.is_multiple_of(2) { "x/even" } else { "x/odd" },
        });
        let bytes = text.to_string().into_bytes();
        let node = Descriptor::of(MediaType::OCI_MANIFEST, &bytes);
        index.add(&node, &Manifest::parse(&bytes, &node.media_type).unwrap(), &[]);
        node.digest
    }

    fn pages(index: &LayoutIndex, subject: &Digest, artifact_type: Option<&str>, most: usize) -> Vec<Vec<Descriptor>> {
        let (mut pages, mut last) = (Vec::new(), None);
        loop {
            let page = index.referrers_after(subject, last, artifact_type.map(MediaType::new).as_ref(), most);
            let text = [b"[", &page.text[..], b"]"].concat();
            pages.push(serde_json::from_slice::<Vec<Descriptor>>(&text).unwrap());
            last = page.next;
            if last.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn referrers_come_in_pages_of_bounded_size_and_each_comes_once() {
        let (mut index, subject) = (LayoutIndex::empty(), Descriptor::of(MediaType::OCI_MANIFEST, b"subject"));
        let mut all: Vec<_> = (0..40).map(|n| referrer(&mut index, n, &subject, "")).collect();
        all.sort();
        for most in [0, 1000, 5000, 1 << 20] {
            let pages = pages(&index, &subject.digest, None, most);
            assert_eq!(pages.concat().iter().map(|node| node.digest).collect::<Vec<_>>(), all, "{most}");
            assert_eq!(pages.len() == 1, most > 40 * 300, "{most}: {} pages", pages.len());
            assert!(pages.iter().all(|page| serde_json::to_vec(page).unwrap().len() <= most.max(400) + 2));
        }
        let even = pages(&index, &subject.digest, Some("x/even"), 1000);
        assert!(even.len() > 1 && even.concat().len() == 20, "what is filtered out takes no room");
        assert_eq!(pages(&index, &Digest::sha256(b""), None, 1000), [vec![]]);
    }

    #[test]
    fn annotations_of_unusual_size_are_left_out_and_all_of_them_are_bounded() {
        let (mut index, subject) = (LayoutIndex::empty(), Descriptor::of(MediaType::OCI_MANIFEST, b"subject"));
        let large = referrer(&mut index, 0, &subject, &"x".repeat(MAX_ANNOTATION_BYTES));
        assert_eq!(index.annotation_bytes, 0);
        let text = "x".repeat(MAX_ANNOTATION_BYTES / 2);
        let small = referrer(&mut index, 1, &subject, &text);
        let listed = pages(&index, &subject.digest, None, 1 << 20).concat();
        let annotations = |digest| listed.iter().find(|node| node.digest == digest).unwrap().annotations.len();
        assert_eq!((annotations(large), annotations(small)), (0, 2));
        let held = index.annotation_bytes;
        referrer(&mut index, 1, &subject, &text);
        assert_eq!(index.annotation_bytes, held, "put again");
        for n in 2..2 * MAX_ALL_ANNOTATION_BYTES / MAX_ANNOTATION_BYTES + 10 {
            referrer(&mut index, n, &subject, &text);
        }
        assert!(index.annotation_bytes <= MAX_ALL_ANNOTATION_BYTES);
        assert!(index.annotation_bytes > MAX_ALL_ANNOTATION_BYTES - MAX_ANNOTATION_BYTES);
        let all: Vec<_> = index.manifests.keys().copied().collect();
        index.dismiss(&all[..10].iter().copied().collect(), &HashSet::new());
        all.iter().for_each(|digest| {
            index.remove(digest);
        });
        assert_eq!(index.annotation_bytes, 0);
    }

    #[test]
    fn tags_come_in_pages() {
        let mut index = LayoutIndex::empty();
        let node = Descriptor::of(MediaType::OCI_INDEX, br#"{"manifests":[]}"#);
        let manifest = Manifest::parse(br#"{"manifests":[]}"#, &node.media_type).unwrap();
        let tags: Vec<Tag> = ["c", "a", "d", "b"].map(|tag| tag.parse().unwrap()).to_vec();
        index.add(&node, &manifest, &tags);
        let page = |last, most, bytes| {
            let page = index.tags_after(last, most, bytes);
            (page.names.concat(), page.has_more)
        };
        assert_eq!(page(None, 9, 9), ("abcd".into(), false));
        assert_eq!(page(None, 2, 9), ("ab".into(), true));
        assert_eq!(page(Some("b"), 9, 1), ("c".into(), true));
        assert_eq!(page(Some("bb"), 9, 0), ("c".into(), true), "one fits always");
        assert_eq!(page(Some("d"), 9, 9), (String::new(), false));
        assert_eq!(page(None, 0, 9), (String::new(), true));
    }
}
