//! One verdict for five objectives: take in a block for each, and judge. The goal is 20 µs.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use molt_bench::engine::Verdicts;

fn verdict(criterion: &mut Criterion) {
    let warm = Verdicts::warm(5);
    criterion.bench_function("a block and a verdict for 5 objectives", |bencher| {
        bencher.iter_batched_ref(
            || warm.clone(),
            |verdicts| black_box(verdicts.judge()),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, verdict);
criterion_main!(benches);
