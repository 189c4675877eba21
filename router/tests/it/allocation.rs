//! The native path allocates nothing: every allocation of this binary is counted, by thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use weir_router::{FeatureSchema, Step, StepFeatures};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "counting allocations takes an allocator")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn allocations(of: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    of();
    ALLOCATIONS.with(Cell::get) - before
}

fn features(step: Step) -> StepFeatures {
    let specs = FeatureSchema::current().of(step).enumerate();
    let values = specs.map(|(index, _)| (index % 3 > 0).then_some(index as f32 * 0.1));
    StepFeatures {
        step,
        values: values.collect(),
    }
}

#[test]
fn four_steps_and_every_head_allocate_nothing_whatever_the_kind_of_weights() {
    let steps = Step::ALL.map(features);
    for (kind, artifact) in crate::planted::trained_kinds() {
        let network = artifact.network();
        let mut state = vec![0.0; network.cell.hidden()];
        let mut sum = 0.0;
        let counted = allocations(|| {
            for features in &steps {
                network.observe(&mut state, features);
            }
            let heads = 0..network.heads.bias.len();
            sum = heads.map(|head| network.heads.value(head, &state)).sum();
        });
        assert_eq!(counted, 0, "{kind:?}");
        assert!(f64::is_finite(sum));
    }
    assert_eq!(
        allocations(|| drop(std::hint::black_box(Box::new(1)))),
        1,
        "allocations are counted"
    );
}
