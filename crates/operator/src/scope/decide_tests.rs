//! Who acts where, in tables.

use super::*;
use crate::settings::DeletionPolicy;

fn rules() -> Rules {
    Rules {
        home: Scope::new("111111111111", "us-west-2"),
        carm: true,
        teams: false,
        of_service: false,
        selectors: false,
        allow_unsafe: false,
    }
}

fn place(account: &str, region: &str) -> AckResourceMetadata {
    AckResourceMetadata {
        owner_account_id: account.to_owned(),
        region: region.to_owned(),
        ..AckResourceMetadata::default()
    }
}

fn subject<'a>(region: Option<&'a str>, place: Option<&'a AckResourceMetadata>) -> Subject<'a> {
    Subject {
        namespace: "ns",
        resource: ["emrcontainers.services.k8s.aws", "v1alpha1", "JobRun"],
        labels: None,
        region,
        place,
        is_gone: false,
    }
}

fn known(namespace: Namespace) -> Known {
    Known { namespaces: HashMap::from([("ns".to_owned(), namespace)]), ..Known::default() }
}

fn with_roles(namespace: Namespace, roles: &[(&str, &str)]) -> Known {
    let roles = roles.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Known { accounts: RoleMap::Found(roles), ..known(namespace) }
}

const ROLE: &str = "arn:aws:iam::222222222222:role/emr";

#[test]
fn the_region_is_where_the_resource_is_then_the_objects_the_namespaces_and_the_flags() {
    let there = place("111111111111", "ap-south-1");
    let nowhere = place("111111111111", "");
    let of_namespace = Some("eu-west-1");
    for (place, object, namespace, expected) in [
        (Some(&there), Some("eu-north-1"), of_namespace, "ap-south-1"),
        (Some(&nowhere), Some("eu-north-1"), of_namespace, "eu-north-1"),
        (None, Some("eu-north-1"), of_namespace, "eu-north-1"),
        (None, None, of_namespace, "eu-west-1"),
        (None, None, None, "us-west-2"),
    ] {
        let known = known(Namespace { region: namespace.map(|r| Ok(r.to_owned())), ..Namespace::default() });
        let acting = acting(&subject(object, place), &known, &rules()).unwrap();
        assert_eq!(acting.scope.region, expected, "{place:?} {object:?} {namespace:?}");
    }
}

#[test]
fn a_resource_in_another_region_than_it_should_be_stays_there_and_that_is_told() {
    let there = place("111111111111", "ap-south-1");
    let drift =
        |object, known: &Known| acting(&subject(object, Some(&there)), known, &rules()).unwrap().told.drift;
    let plain = known(Namespace::default());
    let told = drift(Some("eu-west-1"), &plain).unwrap();
    assert!(
        told.starts_with(
            "Resource already exists in region ap-south-1, but the desired state specifies region eu-west-1. "
        ),
        "{told}"
    );
    assert!(drift(None, &plain).unwrap().contains("specifies region us-west-2. "), "the flag's");
    assert_eq!(drift(Some("ap-south-1"), &plain), None);
    assert!(drift(Some("EU_1"), &plain).unwrap().contains("which is no region"));
}

#[test]
fn what_is_not_known_or_can_not_be_followed_withholds_every_call() {
    let act = |subject: &Subject<'_>, known: &Known| acting(subject, known, &rules()).unwrap_err();
    let plain = subject(None, None);
    assert_eq!(act(&plain, &Known::default()), Withheld::UnknownNamespace);
    let owned = Namespace { owner: Some("222222222222".to_owned()), ..Namespace::default() };
    assert_eq!(act(&plain, &known(owned.clone())), Withheld::UnknownMap(Map::Accounts));
    let Withheld::NoRole(why) = act(&plain, &with_roles(owned.clone(), &[])) else { panic!("no role") };
    assert!(why.ends_with("key not found in CARM configmap"), "{why}");
    let Withheld::NoRole(why) = act(&plain, &with_roles(owned, &[("222222222222", "emr")])) else {
        panic!("no role")
    };
    assert_eq!(why, "parsing role ARN \"emr\" from \"ack-role-account-map\" configmap: arn: invalid prefix");
    let wrong = Namespace { endpoint_url: Some(Err("is wrong".to_owned())), ..Namespace::default() };
    assert_eq!(act(&plain, &known(wrong)), Withheld::Unfit("is wrong".to_owned()));
    let Withheld::Unfit(why) = act(&subject(Some("EU_1"), None), &known(Namespace::default())) else {
        panic!("unfit")
    };
    assert!(why.starts_with("annotation services.k8s.aws/region is `EU_1`"), "{why}");
}

#[test]
fn the_role_is_of_the_team_the_account_of_the_namespace_or_that_of_the_resource() {
    let namespace = Namespace {
        owner: Some("222222222222".to_owned()),
        team: Some("etl".to_owned()),
        ..Namespace::default()
    };
    let mut known = with_roles(
        namespace,
        &[("222222222222", ROLE), ("emrcontainers.222222222222", "arn:aws:iam::222222222222:role/svc")],
    );
    known.teams =
        RoleMap::Found(BTreeMap::from([("etl".to_owned(), "arn:aws:iam::333333333333:role/etl".to_owned())]));
    let plain = subject(None, None);
    let role = |rules: &Rules| acting(&plain, &known, rules).unwrap().scope;
    assert_eq!(role(&rules()).role.as_deref(), Some(ROLE));
    assert_eq!(role(&rules()).account, "222222222222");
    assert_eq!(role(&Rules { teams: true, ..rules() }).account, "333333333333");
    let of_service = role(&Rules { of_service: true, ..rules() }).role;
    assert_eq!(of_service.as_deref(), Some("arn:aws:iam::222222222222:role/svc"));
    assert_eq!(role(&Rules { carm: false, ..rules() }), rules().home, "without CARM no map is read");

    let elsewhere = place("222222222222", "us-west-2");
    let plain_namespace = with_roles(Namespace::default(), &[("222222222222", ROLE)]);
    let scope = acting(&subject(None, Some(&elsewhere)), &plain_namespace, &rules()).unwrap().scope;
    assert_eq!(scope.role.as_deref(), Some(ROLE), "the account that the resource is in");
    let here = place("111111111111", "us-west-2");
    let scope = acting(&subject(None, Some(&here)), &plain_namespace, &rules()).unwrap().scope;
    assert_eq!(scope, rules().home);
}

#[test]
fn one_selector_gives_its_role_and_several_give_none() {
    let rules = Rules { selectors: true, carm: false, ..rules() };
    let selector = |arn: &str| IAMRoleSelectorSpec { arn: arn.to_owned(), ..IAMRoleSelectorSpec::default() };
    let mut known = known(Namespace {
        endpoint_url: Some(Ok("https://vpce.example.com".to_owned())),
        deletion_policy: Some(Ok(DeletionPolicy::Retain)),
        ..Namespace::default()
    });
    let plain = subject(None, None);
    assert_eq!(acting(&plain, &known, &rules).unwrap().scope.role, None, "our own");
    known.selectors.insert("one".to_owned(), ("7".to_owned(), selector(ROLE)));
    let one = acting(&plain, &known, &rules).unwrap();
    assert_eq!((one.scope.account.as_str(), one.scope.role.as_deref()), ("222222222222", Some(ROLE)));
    assert_eq!(one.scope.endpoint_url.as_deref(), Some("https://vpce.example.com"));
    assert_eq!(
        one.told.selected.unwrap(),
        "roleARN: arn:aws:iam::222222222222:role/emr, selectorName: one, selectorResourceVersion: 7"
    );
    known.selectors.insert("two".to_owned(), ("8".to_owned(), selector(ROLE)));
    let Withheld::Unfit(why) = acting(&plain, &known, &rules).unwrap_err() else { panic!("unfit") };
    assert!(why.starts_with("multiple (2) matching IAMRoleSelectors found: one, two"), "{why}");
    known.selectors = [("one".to_owned(), ("9".to_owned(), selector("emr")))].into();
    let Withheld::Unfit(why) = acting(&plain, &known, &rules).unwrap_err() else { panic!("unfit") };
    assert!(why.starts_with("parsing role ARN \"emr\": "), "{why}");
}

#[test]
fn what_is_seen_off_is_acted_for_as_its_namespace_said_when_it_went() {
    let mut known = known(Namespace { region: Some(Ok("eu-west-1".to_owned())), ..Namespace::default() });
    let there = subject(None, None);
    let gone = Subject { is_gone: true, ..there };
    let region = |subject, known: &Known| acting(subject, known, &rules()).map(|acting| acting.scope.region);
    known.remove("ns");
    assert_eq!(region(&there, &known), Err(Withheld::UnknownNamespace), "it is another of that name");
    assert_eq!(region(&gone, &known), Ok("eu-west-1".to_owned()));
    known.namespaces.insert("ns".to_owned(), Namespace::default());
    assert_eq!(region(&gone, &known), Ok("us-west-2".to_owned()));
    known.remove("ns");
    assert_eq!(region(&gone, &known), Ok("us-west-2".to_owned()), "the last of that name counts");
    known.remove("never seen");
    for number in 0..MAX_GONE {
        assert!(region(&gone, &known).is_ok(), "{number} have gone since");
        known.namespaces.insert(number.to_string(), Namespace::default());
        known.remove(&number.to_string());
    }
    assert_eq!(region(&gone, &known), Err(Withheld::UnknownNamespace));
    assert_eq!(known.gone.len(), MAX_GONE);
}
