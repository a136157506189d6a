//! Merkle trees of logs (RFC 6962, section 2.1): whether a leaf is in the tree with a given root.

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash of a leaf or of an inner node.
pub(super) type Hash = [u8; 32];

/// Longest audit path: that of a tree of 2^64 leaves.
pub(super) const MAX_PATH: usize = 64;

/// Returns the hash of a leaf.
pub(super) fn leaf(content: &[u8]) -> Hash {
    hash(&[&[0], content])
}

/// Returns the hash of the node above two others.
fn node(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

fn hash(parts: &[&[u8]]) -> Hash {
    Sha256::digest(parts.concat()).into()
}

/// Returns the root of the tree of `size` leaves with `leaf` at `index`, from its audit path (RFC 9162, section
/// 2.1.3.2, gives the algorithm; the trees are the same). None if a path of this length is not possible there.
pub(super) fn root(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    // Both climb to the root, level by level: our node, and the last one of the level.
    let (mut at, mut last, mut root) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            root = node(sibling, &root);
            // The last node of an odd level has no sibling: it moves up unchanged.
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            root = node(&root, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(root)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns the root of the tree over `leaves`, as RFC 6962 defines it: by halves, without proofs.
    pub(in super::super) fn tree(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => hash(&[]),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(half(many.len()));
                node(&tree(left), &tree(right))
            }
        }
    }

    /// Returns the audit path of `index` (RFC 6962, section 2.1.1).
    pub(in super::super) fn path(leaves: &[Hash], index: usize) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(half(leaves.len()));
        let (mut below, beside) = if index < left.len() {
            (path(left, index), tree(right))
        } else {
            (path(right, index - left.len()), tree(left))
        };
        below.push(beside);
        below
    }

    /// Returns the largest power of two below `count`.
    fn half(count: usize) -> usize {
        count.next_power_of_two() / 2
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|n| leaf(format!("entry {n}").as_bytes())).collect()
    }

    #[test]
    fn the_hashes_are_those_of_the_known_test_trees() {
        // The usual eight inputs and roots for tests of RFC 6962 implementations.
        let inputs =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let leaves: Vec<_> = inputs.iter().map(|input| leaf(&hex::decode(input).unwrap())).collect();
        for (count, root) in [
            (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (7, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ] {
            assert_eq!(hex::encode(tree(&leaves[..count])), root, "{count}");
        }
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proved_and_nothing_else_is() {
        for size in 1..=20 {
            let leaves = leaves(size);
            let expected = tree(&leaves);
            for index in 0..size {
                let path = path(&leaves, index);
                let prove =
                    |leaf, index: usize, path: &[Hash]| root(leaf, index as u64, size as u64, path) == Some(expected);
                assert!(prove(leaves[index], index, &path), "{index} of {size}");
                assert!(!prove(leaf(b"other"), index, &path), "{index} of {size}: another leaf");
                for other in (0..=size).filter(|other| *other != index) {
                    assert!(!prove(leaves[index], other, &path), "{index} of {size}, at {other}");
                }
                assert_eq!(root(leaves[index], index as u64, index as u64, &path), None, "{index} of {index}");
                let longer = [path.clone(), vec![leaves[0]]].concat();
                assert!(!prove(leaves[index], index, &longer), "{index} of {size}: a longer path");
                if let Some((_, shorter)) = path.split_last() {
                    assert!(!prove(leaves[index], index, shorter), "{index} of {size}: a shorter path");
                    let mut changed = path.clone();
                    changed[0][31] ^= 1;
                    assert!(!prove(leaves[index], index, &changed), "{index} of {size}: another sibling");
                }
            }
        }
    }

    #[test]
    fn sizes_at_the_end_of_the_numbers_are_no_trap() {
        assert_eq!(root([0; 32], 0, 0, &[]), None);
        assert_eq!(root([0; 32], 0, 1, &[]), Some([0; 32]));
        assert_eq!(root([0; 32], u64::MAX, u64::MAX, &[]), None);
        assert_eq!(root([0; 32], u64::MAX - 1, u64::MAX, &[]), None);
        assert!(root([0; 32], 0, u64::MAX, &[[0; 32]; MAX_PATH]).is_some());
        assert_eq!(root([0; 32], 0, u64::MAX, &[[0; 32]; MAX_PATH + 1]), None);
    }
}
