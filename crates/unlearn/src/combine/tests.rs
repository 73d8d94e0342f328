//! The theory's invariants, on random gradients.

use amend_engine::{DType, Gradients, Params, Rng, Tensor};
use proptest::prelude::*;

use super::*;

fn params(sizes: &[usize]) -> Params {
    let mut params = Params::default();
    for (i, &n) in sizes.iter().enumerate() {
        params.add(format!("p{i}"), Tensor::zeros(&[n], DType::F32)).unwrap();
    }
    params
}

fn gradients(params: &Params, values: &[f32]) -> Gradients {
    let mut out = Gradients::none(params);
    let mut rest = values;
    for (id, param) in params.iter() {
        let (own, others) = rest.split_at(param.tensor.len());
        out.set(id, Tensor::from_f32(own, &[own.len()]).unwrap());
        rest = others;
    }
    out
}

fn flat(g: &Gradients) -> Vec<f32> {
    g.iter().flat_map(|(_, t)| t.f32().to_vec()).collect()
}

const ONE: Weights = Weights { forget: 1.0, retain: 1.0 };

#[test]
fn hand_case() {
    let params = params(&[2]);
    let (f, r) = (gradients(&params, &[-2.0, 1.0]), gradients(&params, &[1.0, 0.5]));
    let pcgrad = PcGrad::default().combine(&f, &r, ONE).unwrap();
    for (got, want) in flat(&pcgrad).iter().zip([0.2, 2.1]) {
        assert!((got - want).abs() < 1e-6, "{got} {want}");
    }
    assert!((pcgrad.cosine(&r) - 0.530).abs() < 1e-3);
    let sago = Sago::default().combine(&f, &r, ONE).unwrap();
    assert_eq!(flat(&sago), [1.0, 1.0]);
    assert!((sago.cosine(&r) - 0.949).abs() < 1e-3);
}

/// Where the two agree PCGrad leaves the forget gradient alone, and BLUR does not.
#[test]
fn blur_removes_what_agrees_too() {
    let params = params(&[2]);
    let (f, r) = (gradients(&params, &[2.0, 1.0]), gradients(&params, &[1.0, 0.0]));
    for scope in [pcgrad::Scope::Tensor, pcgrad::Scope::Global] {
        assert_eq!(flat(&PcGrad { scope }.combine(&f, &r, ONE).unwrap()), [3.0, 1.0]);
        for (got, want) in flat(&Blur { scope }.combine(&f, &r, ONE).unwrap()).iter().zip([1.0, 1.0]) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
    }
    let against = gradients(&params, &[-2.0, 1.0]);
    let both = [&PcGrad::default() as &dyn Combine, &Blur::default()]
        .map(|rule| flat(&rule.combine(&against, &r, ONE).unwrap()));
    assert_eq!(both[0], both[1]);
}

/// The first step's smoothed gradient is its own: then GRU is PCGrad over all parameters, (.2, 2.1) − and later not, for what
/// came before counts.
#[test]
fn gru_projects_against_what_it_remembers() {
    let params = params(&[2]);
    let (f, r) = (gradients(&params, &[-2.0, 1.0]), gradients(&params, &[1.0, 0.5]));
    let (gru, mut memory) = (Gru { share: 0.5 }, Memory::default());
    let next = |f: &Gradients, r: &Gradients, memory: &mut Memory| {
        flat(&gru.combine_next(f, r, ONE, memory).unwrap())
    };
    let global = PcGrad { scope: pcgrad::Scope::Global };
    for (got, want) in next(&f, &r, &mut memory).iter().zip(flat(&global.combine(&f, &r, ONE).unwrap())) {
        assert!((got - want).abs() < 1e-6, "{got} {want}");
    }
    // Smoothed: ½(0, 1) + ½(1, ½) = (½, ¾), against which (−2, 1) is −¼: it loses −¼/(13/16) of it.
    let next = next(&f, &gradients(&params, &[0.0, 1.0]), &mut memory);
    let factor = -0.25 / (13.0 / 16.0);
    for (got, want) in next.iter().zip([-2.0 - factor * 0.5, 2.0 - factor * 0.75]) {
        assert!((got - want).abs() < 1e-6, "{got} {want}");
    }
}

/// A share of one forgets what was before; and what neither gradient reached stays out of the step.
#[test]
fn gru_that_smooths_nothing_is_pcgrad_over_all_parameters() {
    let params = params(&[2, 2]);
    let both = gradients(&params, &[1.0, -2.0, 3.0, 4.0]);
    let ids: Vec<_> = params.iter().map(|(id, _)| id).collect();
    let first = |values: [f32; 2]| {
        let mut g = Gradients::none(&params);
        g.set(ids[0], Tensor::from_f32(&values, &[2]).unwrap());
        g
    };
    let mut memory = Memory::default();
    let gru = Gru { share: 1.0 };
    gru.combine_next(&both, &both, ONE, &mut memory).unwrap();
    let (f, r) = (first([-2.0, 1.0]), first([1.0, 0.5]));
    let update = gru.combine_next(&f, &r, ONE, &mut memory).unwrap();
    assert!(update.get(ids[1]).is_none());
    let wanted = PcGrad { scope: pcgrad::Scope::Global }.combine(&f, &r, ONE).unwrap();
    for (got, want) in flat(&update).iter().zip(flat(&wanted)) {
        assert!((got - want).abs() < 1e-6, "{got} {want}");
    }
}

#[test]
fn sago_is_not_always_tighter() {
    let params = params(&[3]);
    let (f, r) = (gradients(&params, &[0.01, -20.0, 5.0]), gradients(&params, &[10.0, 1.0, 1.0]));
    let global = PcGrad { scope: pcgrad::Scope::Global };
    assert!((global.combine(&f, &r, ONE).unwrap().cosine(&r) - 0.441).abs() < 1e-3);
    assert!((Sago::default().combine(&f, &r, ONE).unwrap().cosine(&r) - 0.118).abs() < 1e-3);
}

#[test]
fn single_loss_is_refused_with_the_reason() {
    let error = check(&Combination::Sago(Sago::default()), false).unwrap_err().to_string();
    assert!(error.contains("retain = \"none\""), "{error}");
    check(&Combination::Sum(Sum::default()), false).unwrap();
}

fn coordinate() -> impl Strategy<Value = f32> {
    prop_oneof![4 => -3.0f32..3.0, 1 => Just(0.0), 1 => -1e-30f32..1e-30]
}

proptest! {
    #[test]
    fn no_coordinate_opposes_retention(
        f in prop::collection::vec(coordinate(), 12),
        r in prop::collection::vec(coordinate(), 12),
        alpha in 0.01f32..3.0,
        gamma in 0.01f32..3.0,
    ) {
        let params = params(&[5, 7]);
        let (forget, retain) = (gradients(&params, &f), gradients(&params, &r));
        let weights = Weights { forget: gamma, retain: alpha };
        let sago = Sago::default().combine(&forget, &retain, weights).unwrap();
        for ((g, &f), &r) in flat(&sago).into_iter().zip(&f).zip(&r) {
            prop_assert!(!(g > 0.0 && r < 0.0 || g < 0.0 && r > 0.0), "{g} against {r}");
            if f == 0.0 {
                prop_assert_eq!(g, 0.0);
            }
        }
        prop_assert!(sago.cosine(&retain) >= 0.0);
        for scope in [pcgrad::Scope::Tensor, pcgrad::Scope::Global] {
            let pcgrad = PcGrad { scope }.combine(&forget, &retain, weights).unwrap();
            prop_assert!(pcgrad.cosine(&retain) >= -1e-6);
        }
        // Against the smoothed gradient, alone: what is retained adds its own.
        let mut memory = Memory::default();
        let (gru, alone) = (Gru::default(), Weights { forget: gamma, retain: 0.0 });
        gru.combine_next(&retain, &forget, alone, &mut memory).unwrap();
        let update = gru.combine_next(&forget, &retain, alone, &mut memory).unwrap();
        let smoothed = memory.gradients("gru.retain").unwrap();
        prop_assert!(update.cosine(smoothed) >= -1e-6);
    }

    #[test]
    fn without_conflict_nothing_is_changed(
        pairs in prop::collection::vec((0.0f32..3.0, 0.0f32..3.0, prop::bool::ANY), 9),
    ) {
        let params = params(&[9]);
        let sign = |negative: bool| if negative { -1.0 } else { 1.0 };
        let f: Vec<f32> = pairs.iter().map(|p| p.0 * sign(p.2)).collect();
        let r: Vec<f32> = pairs.iter().map(|p| p.1 * sign(p.2)).collect();
        let (forget, retain) = (gradients(&params, &f), gradients(&params, &r));
        let weights = Weights { forget: 0.5, retain: 2.0 };
        let sum = Sum::default().combine(&forget, &retain, weights).unwrap();
        let pcgrad = PcGrad::default().combine(&forget, &retain, weights).unwrap();
        prop_assert_eq!(flat(&pcgrad), flat(&sum));
        let gru = Gru::default().combine(&forget, &retain, weights).unwrap();
        prop_assert_eq!(flat(&gru), flat(&sum));
        let sago = Sago::default().combine(&forget, &retain, weights).unwrap();
        prop_assert_eq!(flat(&sago), f.iter().map(|f| 0.5 * f).collect::<Vec<_>>());
    }
}

/// An expert that no token of the forget batch was sent to has no forget gradient, and is part of the update.
#[test]
fn what_the_forget_gradient_did_not_reach_counts_as_zeros() {
    let params = params(&[3, 2]);
    let retain = gradients(&params, &[1.0, 1.0, -1.0, 2.0, 0.0]);
    let mut forget = Gradients::none(&params);
    let (first, _) = params.iter().next().unwrap();
    forget.set(first, Tensor::from_f32(&[-1.0, 0.0, -1.0], &[3]).unwrap());
    let update = Sum::default().combine(&forget, &retain, ONE).unwrap();
    let geometry = Geometry::of(&forget, &retain, &update);
    assert_eq!((geometry.forget_zero, geometry.conflict), (3.0 / 5.0, 1.0 / 5.0));
    // Written out as zeros, the same.
    let zeros = gradients(&params, &[-1.0, 0.0, -1.0, 0.0, 0.0]);
    assert_eq!(Geometry::of(&zeros, &retain, &update).row(), geometry.row());
}

/// What is measured piece by piece has the bits of the whole gradients' own products.
#[test]
fn geometry_has_the_bits_of_whole_products() {
    let params = params(&[10_000, 5]);
    let mut rng = Rng::named(1, "geometry");
    let mut random = || gradients(&params, &(0..10_005).map(|_| rng.normal() as f32).collect::<Vec<_>>());
    let (forget, retain, update) = (random(), random(), random());
    let geometry = Geometry::of(&forget, &retain, &update);
    assert_eq!((geometry.norm_forget, geometry.norm_retain), (forget.norm(), retain.norm()));
    assert_eq!(geometry.cos_forget_retain, forget.cosine(&retain));
    assert_eq!(geometry.cos_update_retain, update.cosine(&retain));
    assert_eq!(geometry.cos_update_forget, update.cosine(&forget));
}
