//! How long tables take: `cargo bench -p minimax-coeffs --features generate --profile dev --bench generate`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use minimax_coeffs::certificate::certify;
use minimax_coeffs::compose::{PUBLISHED_ETA, sign_minimax};
use minimax_coeffs::real::{big, bits_of_digits};
use minimax_coeffs::{CompositeSign, Target, schedule};

const ETA: f64 = 1e-6;

fn remez(c: &mut Criterion) {
    let bits = bits_of_digits(60);
    let mut group = c.benchmark_group("remez [0.025, 1.975]");
    for degree in [15, 29, 63] {
        group.bench_function(format!("degree {degree}, float64"), |b| {
            b.iter(|| sign_minimax(&[black_box(0.025), 1.975], degree, 1e-9).unwrap());
        });
        group.bench_function(format!("degree {degree}, 60 digits"), |b| {
            b.iter(|| sign_minimax(&[big(black_box(0.025), bits), big(1.975, bits)], degree, 1e-30).unwrap());
        });
    }
}

fn tables(c: &mut Criterion) {
    let mut group = c.benchmark_group("tables");
    group.sample_size(10);
    group.bench_function("alpha 14 from nothing, its degrees known", |b| {
        b.iter(|| {
            CompositeSign::generate(Target::Relu { alpha: 14 }, black_box(&[15, 27, 29]), ETA).unwrap()
        });
    });
    group.bench_function("alpha 14 from nothing, its degrees searched for", |b| {
        b.iter(|| {
            let target = Target::Relu { alpha: black_box(14) };
            let found = schedule::search(target, 31, ETA).unwrap();
            CompositeSign::generate(target, &found.degrees, ETA).unwrap()
        });
    });
    for (alpha, max_degree) in [(14, 31), (20, 31), (14, 63), (20, 63)] {
        group.bench_function(format!("schedule of alpha {alpha}, degrees up to {max_degree}"), |b| {
            b.iter(|| schedule::search(Target::Relu { alpha: black_box(alpha) }, max_degree, ETA).unwrap());
        });
    }
    let target = Target::Relu { alpha: 14 };
    let generated = CompositeSign::generate(target, &[15, 27, 29], PUBLISHED_ETA).unwrap();
    let (sign, start) = (generated.composite(), generated.components[0].interval[0]);
    group.bench_function("certificate of alpha 14", |b| {
        b.iter(|| certify(&sign, black_box(start), 0.0).unwrap());
    });
}

criterion_group!(benches, remez, tables);
criterion_main!(benches);
