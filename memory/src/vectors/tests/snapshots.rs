//! A graph that is written and read again.

use super::super::snapshot::{GraphIdentity, Snapshot, SnapshotError};
use super::*;

fn identity() -> GraphIdentity {
    GraphIdentity::new(DIMENSIONS, "test", &PARAMETERS)
}

fn some_id(slot: u32) -> Option<u128> {
    Some(u128::from(slot) + 1)
}

fn taken(points: &[Vec<f32>], bytes: &[u8]) -> Result<Vectors, SnapshotError> {
    let mut vectors = Vectors::new(DIMENSIONS, PARAMETERS);
    // Slots are others than they were.
    for (slot, vector) in (0..).zip(points.iter().rev()) {
        vectors.set(slot, vector);
    }
    let last = points.len() as u128;
    let slot = |id: u128| {
        last.checked_sub(id)
            .map(|slot| slot as u32)
            .filter(|_| id > 0)
    };
    let snapshot = Snapshot::decode(bytes, &identity())?;
    vectors.adopt(&snapshot, (7, points.len()), slot)?;
    check(&vectors);
    Ok(vectors)
}

#[test]
fn a_snapshot_gives_the_same_graph_in_other_slots() {
    let (points, queries) = clustered(2_000, 12);
    let before = filled(&points);
    let bytes = before.snapshot(&identity(), 7, some_id).unwrap();
    let after = taken(&points, &bytes).unwrap();
    assert_eq!((after.waiting(), after.linked()), (0, Some(2_000)));
    let sum: f64 = queries
        .iter()
        .map(|query| recall(&after, query, None))
        .sum();
    assert!(sum / queries.len() as f64 >= 0.987, "{sum}");

    // Newer vectors, one that is another and some that are gone: the rest keeps its place.
    let (mut changed, _) = clustered(2_100, 12);
    changed[100] = queries[0].clone();
    let mut after = taken(&changed, &bytes).unwrap();
    assert_eq!(after.waiting(), 101);
    settle(&mut after);
    check(&after);
    let mut after = taken(&points[..1_900], &bytes).unwrap();
    assert_eq!((after.waiting(), after.linked()), (100, Some(2_000)));
    assert_eq!(walked(&after, &points[0], None, 64)[0], 1_899);
    settle(&mut after);
    check(&after);
    assert_eq!(after.linked(), Some(1_900));

    let refused = taken(&points[..1_000], &bytes).unwrap_err();
    assert!(
        matches!(refused, SnapshotError::Outdated { .. }),
        "{refused}"
    );
    let newer = before.snapshot(&identity(), 8, some_id).unwrap();
    let refused = taken(&points, &newer).unwrap_err();
    assert!(
        matches!(refused, SnapshotError::Newer { found: 8, store: 7 }),
        "{refused}"
    );
    for other in [
        GraphIdentity::new(DIMENSIONS, "other", &PARAMETERS),
        GraphIdentity::new(DIMENSIONS + 1, "test", &PARAMETERS),
        GraphIdentity::new(DIMENSIONS, "test", &HnswParameters::default()),
    ] {
        let refused = Snapshot::decode(&bytes, &other).unwrap_err();
        assert!(
            matches!(refused, SnapshotError::Foreign { .. }),
            "{refused}"
        );
    }
}

#[test]
fn a_damaged_snapshot_is_refused_or_harmless_and_never_a_panic() {
    let (points, queries) = clustered(300, 13);
    let bytes = filled(&points).snapshot(&identity(), 7, some_id).unwrap();
    for end in 0..bytes.len() {
        assert!(
            Snapshot::decode(&bytes[..end], &identity()).is_err(),
            "cut at {end}"
        );
    }
    let mut random = Random(14);
    let (mut refused, mut taken_as_is) = (0, 0);
    for _ in 0..1_000 {
        let mut changed = bytes.clone();
        let bit = random.below(8 * bytes.len());
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(
            Snapshot::decode(&changed, &identity()).is_err(),
            "bit {bit}"
        );
        // The same with a digest that fits: what is inside must stand on its own.
        let body = changed.len() - 8;
        let digest = Digest::of_bytes(&changed[..body]).to_le_bytes();
        changed[body..].copy_from_slice(&digest);
        match taken(&points, &changed) {
            Ok(mut vectors) => {
                walked(&vectors, &queries[0], None, 64);
                settle(&mut vectors);
                check(&vectors);
                taken_as_is += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(
        refused > 100 && taken_as_is > 100,
        "{refused}, {taken_as_is}"
    );
}
