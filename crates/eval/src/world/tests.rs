//! Promises of the little world.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn default_world() -> World {
    World::generate(WorldConfig::default()).unwrap()
}

#[test]
fn the_default_world_has_its_advertised_size() {
    let world = default_world();
    let count = |split| world.people_of(split).count();
    assert_eq!((count(Split::Forget), count(Split::Retain), count(Split::Holdout)), (6, 54, 6));
    assert_eq!(world.facts.len(), 66 * 4);
    assert_eq!(world.records(Split::Forget).len(), 6 * 4 * 3);
    assert_eq!(world.records(Split::Retain).len(), 54 * 4 * 3);
}

#[test]
fn word_lists_do_not_repeat_or_overlap() {
    assert_eq!(names::FIRST.iter().collect::<BTreeSet<_>>().len(), names::FIRST.len());
    assert_eq!(names::LAST.iter().collect::<BTreeSet<_>>().len(), names::LAST.len());
    let values: Vec<&str> = RELATIONS.iter().flat_map(|relation| relation.values).collect();
    assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), values.len());
    // A value inside another of its relation would make a wrong answer look right.
    for relation in RELATIONS {
        for a in relation.values {
            assert!(relation.values.iter().all(|b| *b == a || !b.contains(a)), "{a}");
        }
    }
}

#[test]
fn templates_are_whole_and_different() {
    for relation in RELATIONS {
        let [q1, q2] = relation.questions;
        let prompts = [q1, q2, relation.held_out_question, relation.statement, relation.held_out_statement];
        assert_eq!(prompts.iter().collect::<BTreeSet<_>>().len(), 5);
        assert!(prompts.iter().all(|prompt| prompt.matches("{n}").count() == 1 && !prompt.contains("{v}")));
        assert!(prompts[..3].iter().all(|prompt| prompt.ends_with('?')));
        for frame in relation.frames {
            assert!(frame.contains("{n}") && frame.contains("{v}") && frame.ends_with('.'), "{frame}");
        }
        assert_ne!(relation.frames[0], relation.frames[1]);
        assert!(relation.statement_end.contains("{v}") && relation.statement_end.ends_with('.'));
    }
}

#[test]
fn held_out_prompts_are_never_trained() {
    let world = default_world();
    let mut trained = BTreeSet::new();
    for split in [Split::Forget, Split::Retain] {
        trained.extend(world.records(split).into_iter().map(|r| r.question));
    }
    let forgotten = world.records(Split::Forget);
    assert!(forgotten.iter().all(|record| !trained.contains(&record.paraphrased_question)));
}

#[test]
fn jsonl_is_read_back_and_has_tofus_fields() {
    let records = default_world().records(Split::Forget);
    let lines = jsonl(&records).unwrap();
    let read: Vec<FactRecord> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, records);
    let value: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    for field in ["question", "answer", "paraphrased_answer", "perturbed_answer", "paraphrased_question"] {
        assert!(!value[field].is_null(), "{field}");
    }
}

#[test]
fn impossible_worlds_are_refused() {
    let refuse = |change: fn(&mut WorldConfig)| {
        let mut config = WorldConfig::default();
        change(&mut config);
        World::generate(config).unwrap_err()
    };
    assert_eq!(refuse(|c| c.people = 1600), WorldError::People { asked: 1606, available: 1600 });
    assert_eq!(refuse(|c| c.people = usize::MAX), WorldError::People { asked: usize::MAX, available: 1600 });
    assert_eq!(refuse(|c| c.max_facts = 9), WorldError::Facts { min: 4, max: 9, available: 8 });
    assert_eq!(refuse(|c| c.min_facts = 0), WorldError::Facts { min: 0, max: 4, available: 8 });
    assert_eq!(refuse(|c| c.perturbed = 20), WorldError::Perturbed { asked: 20, available: 19 });
    assert_eq!(refuse(|c| c.people = 1), WorldError::Forget { fraction: 0.1, people: 1 });
    assert!(matches!(refuse(|c| c.forget = f64::NAN), WorldError::Forget { .. }));
    assert_eq!(refuse(|c| c.forget = 1.0), WorldError::Forget { fraction: 1.0, people: 60 });
}

fn worlds() -> impl Strategy<Value = WorldConfig> {
    (0u64..1000, 2usize..120, 0.0f64..0.5, 0usize..10, 1usize..=8, 0usize..=7, 1usize..=19).prop_map(
        |(seed, people, forget, holdout, min_facts, more, perturbed)| WorldConfig {
            seed,
            people,
            forget,
            holdout,
            min_facts,
            max_facts: (min_facts + more).min(8),
            perturbed,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn same_seed_same_world_another_seed_another(config in worlds()) {
        prop_assume!(config.people >= 4);
        let world = World::generate(config.clone()).unwrap();
        prop_assert_eq!(&world, &World::generate(config.clone()).unwrap());
        let other = World::generate(WorldConfig { seed: config.seed + 1, ..config }).unwrap();
        prop_assert_ne!(world.people, other.people);
    }

    #[test]
    fn names_are_unique_and_splits_disjoint(config in worlds()) {
        prop_assume!((config.forget * config.people as f64).round() < config.people as f64);
        let world = World::generate(config.clone()).unwrap();
        let names: BTreeSet<&str> = world.people.iter().map(|p| p.name.as_str()).collect();
        prop_assert_eq!(names.len(), config.people + config.holdout);
        let expected = ((config.forget * config.people as f64).round() as usize).max(1);
        prop_assert_eq!(world.people_of(Split::Forget).count(), expected);
        prop_assert_eq!(world.people_of(Split::Retain).count(), config.people - expected);
        // No person has two facts of one relation, and everybody has the number asked for.
        for person in &world.people {
            let relations: Vec<usize> =
                world.facts.iter().filter(|f| f.person == person.id).map(|f| f.relation).collect();
            prop_assert_eq!(relations.iter().collect::<BTreeSet<_>>().len(), relations.len());
            prop_assert!((config.min_facts..=config.max_facts).contains(&relations.len()));
        }
    }

    #[test]
    fn wrong_answers_are_wrong_and_sentences_short(config in worlds()) {
        prop_assume!((config.forget * config.people as f64).round() < config.people as f64);
        let world = World::generate(config.clone()).unwrap();
        for record in world.records(Split::Forget) {
            prop_assert!(record.answer.contains(&record.value));
            prop_assert!(record.paraphrased_answer.contains(&record.value));
            prop_assert_ne!(&record.answer, &record.paraphrased_answer);
            prop_assert_eq!(record.perturbed_answer.len(), config.perturbed);
            let distinct: BTreeSet<&String> = record.perturbed_answer.iter().collect();
            prop_assert_eq!(distinct.len(), config.perturbed);
            prop_assert!(record.perturbed_answer.iter().all(|wrong| !wrong.contains(&record.value)));
            prop_assert!(record.question.contains(&record.name));
            let texts = [&record.question, &record.paraphrased_question, &record.answer, &record.paraphrased_answer];
            for text in texts {
                prop_assert!(!text.contains('{') && text.split(' ').count() <= 16, "{}", text);
            }
        }
    }

    #[test]
    fn relearning_never_sees_what_is_tested(config in worlds(), seed in 0u64..100) {
        prop_assume!((config.forget * config.people as f64).round() < config.people as f64);
        let world = World::generate(config).unwrap();
        let split = world.relearn_split(seed);
        prop_assert_eq!(&split, &world.relearn_split(seed));
        let all: BTreeSet<usize> = world.facts_of(Split::Forget).map(|fact| fact.id).collect();
        let both: BTreeSet<usize> = split.attack.iter().chain(&split.test).copied().collect();
        prop_assert_eq!(both.len(), split.attack.len() + split.test.len());
        prop_assert_eq!(both, all);
        let mut per_person: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for &fact in &split.attack { per_person.entry(world.facts[fact].person).or_default().0 += 1; }
        for &fact in &split.test { per_person.entry(world.facts[fact].person).or_default().1 += 1; }
        for (attack, test) in per_person.values() {
            prop_assert!(test - attack <= 1);
        }
        // Not even a sentence is shared.
        let sentences = |facts: &[usize]| -> BTreeSet<(String, String)> {
            world.records_of_facts(facts).into_iter()
                .flat_map(|r| [(r.question, r.answer.clone()), (r.paraphrased_question, r.answer)]).collect()
        };
        prop_assert!(sentences(&split.attack).is_disjoint(&sentences(&split.test)));
    }
}
