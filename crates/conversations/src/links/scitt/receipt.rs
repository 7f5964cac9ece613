//! A receipt: the transparency service's signature over the root of its Merkle tree, and the path from our statement to
//! that root (RFC 9162 §2.1.3, draft-ietf-cose-merkle-tree-proofs).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coset::cbor::value::Value;
use coset::{CborSerializable as _, Label};
use p256::EncodedPoint;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use ring::digest;
use serde_json::Value as Json;

use super::statement;

/// The header with the proofs, and the proofs of inclusion within it.
const PROOFS: i64 = 396;
const INCLUSION: i64 = -1;

/// Where the service's keys are, by its configuration.
pub(super) fn jwks_uri(configuration: &[u8]) -> Option<String> {
    let Value::Map(members) = Value::from_slice(configuration).ok()? else { return None };
    let found = members.into_iter().find(|(name, _)| name.as_text() == Some("jwks_uri"));
    found.and_then(|(_, uri)| uri.into_text().ok()).filter(|uri| uri.starts_with("http"))
}

/// Checks that the service has this statement, by its hash, in its tree.
pub(super) fn verify(receipt: &[u8], statement: &[u8], keys: &Json) -> Result<(), String> {
    let message = statement::read(receipt)?;
    let proofs = message.unprotected.rest.iter().find(|(label, _)| *label == Label::Int(PROOFS));
    let inclusion = proofs.and_then(|(_, proofs)| {
        let member = |(label, value): &(Value, Value)| {
            (*label == Value::Integer(INCLUSION.into())).then(|| value.clone())
        };
        proofs.as_map()?.iter().find_map(member)
    });
    let proof = match inclusion {
        Some(Value::Array(proofs)) => proofs.into_iter().next().and_then(|proof| proof.into_bytes().ok()),
        Some(Value::Bytes(proof)) => Some(proof),
        _ => None,
    };
    let proof = proof.ok_or("it has no proof of inclusion")?;
    let (size, index, path) = read_proof(&proof).ok_or("its proof of inclusion cannot be read")?;
    let root =
        root(leaf(statement), size, index, &path).ok_or("its proof of inclusion does not fit its tree")?;
    let kid = &message.protected.header.key_id;
    let key = key(keys, kid).ok_or("the service publishes no P-256 key for it")?;
    message.verify_detached_signature(&root, b"", |signature, data| {
        let signature =
            Signature::from_slice(signature).map_err(|_| "its signature cannot be read".to_owned())?;
        key.verify(data, &signature).map_err(|_| "its signature is not the service's".to_owned())
    })
}

/// `[tree-size, leaf-index, [+ hash]]`
fn read_proof(proof: &[u8]) -> Option<(u64, u64, Vec<Vec<u8>>)> {
    let Value::Array(parts) = Value::from_slice(proof).ok()? else { return None };
    let [size, index, path] = <[Value; 3]>::try_from(parts).ok()?;
    let number = |value: Value| u64::try_from(value.into_integer().ok()?).ok();
    let path =
        path.into_array().ok()?.into_iter().map(|hash| hash.into_bytes().ok()).collect::<Option<_>>()?;
    Some((number(size)?, number(index)?, path))
}

/// The hash of a leaf.
pub(super) fn leaf(statement: &[u8]) -> Vec<u8> {
    hash(&[&[0], statement])
}

/// The hash of a node.
pub(super) fn node(left: &[u8], right: &[u8]) -> Vec<u8> {
    hash(&[&[1], left, right])
}

fn hash(parts: &[&[u8]]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

/// The root that a path leads to, by RFC 9162 §2.1.3.2; none when the path is too long or too short for the tree.
fn root(leaf: Vec<u8>, size: u64, index: u64, path: &[Vec<u8>]) -> Option<Vec<u8>> {
    if index >= size {
        return None;
    }
    let (mut at, mut last, mut current) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            current = node(sibling, &current);
            while at % 2 == 0 && at != 0 {
                at /= 2;
                last /= 2;
            }
        } else {
            current = node(&current, sibling);
        }
        at /= 2;
        last /= 2;
    }
    (last == 0).then_some(current)
}

/// The key of this name, else the first one.
fn key(keys: &Json, kid: &[u8]) -> Option<VerifyingKey> {
    let keys: Vec<&Json> =
        keys["keys"].as_array()?.iter().filter(|key| key["crv"] == "P-256" || key["crv"].is_null()).collect();
    let named = keys
        .iter()
        .find(|key| !kid.is_empty() && key["kid"].as_str().is_some_and(|name| name.as_bytes() == kid));
    let key = named.or(keys.first())?;
    let number = |name: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(key[name].as_str()?.trim_end_matches('=')).ok()?;
        <[u8; 32]>::try_from(bytes).ok()
    };
    let point = EncodedPoint::from_affine_coordinates(&number("x")?.into(), &number("y")?.into(), false);
    VerifyingKey::from_encoded_point(&point).ok()
}

#[cfg(test)]
pub(super) use tests::tree;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The root of a tree and the path of one of its leaves, by the definition in RFC 9162 §2.1.1 and §2.1.3.1.
    pub(in super::super) fn tree(leaves: &[Vec<u8>], index: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        if let [leaf] = leaves {
            return (leaf.clone(), Vec::new());
        }
        let half = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(half);
        let at = |part: &[Vec<u8>], index: usize| tree(part, index.min(part.len() - 1));
        let ((left_root, left_path), (right_root, right_path)) =
            (at(left, index), at(right, index.saturating_sub(half)));
        let mut path = if index < half { left_path } else { right_path.clone() };
        path.push(if index < half { right_root.clone() } else { left_root.clone() });
        (node(&left_root, &right_root), path)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_path_leads_to_the_root_and_no_other_does(size in 1usize..70, pick in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>()) {
            let leaves: Vec<Vec<u8>> = (0..size).map(|n| leaf(&[n as u8])).collect();
            let index = pick.index(size);
            let (expected, mut path) = tree(&leaves, index);
            let walk = |leaf: &Vec<u8>, at: usize, path: &[Vec<u8>]| root(leaf.clone(), size as u64, at as u64, path);
            prop_assert_eq!(walk(&leaves[index], index, &path), Some(expected.clone()));
            prop_assert_ne!(walk(&leaf(b"other"), index, &path), Some(expected.clone()));
            prop_assert_eq!(walk(&leaves[index], size, &path), None);
            path.push(leaf(b"more"));
            prop_assert_ne!(walk(&leaves[index], index, &path), Some(expected.clone()));
            path.pop();
            if !path.is_empty() {
                let at = flip.index(path.len());
                path[at][0] ^= 1;
                prop_assert_ne!(walk(&leaves[index], index, &path), Some(expected));
            }
        }
    }
}
