"""Rank-r, mAP and mINP against rankings worked out by hand."""

import numpy as np
import pytest

from mmatconv import UserError
from mmatconv.retrieval.ranking import evaluate_ranking

# A gallery in the order of its similarity to the query, of identity 1 and camera 1.
SCORES = np.array([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]])
QUERY = np.array([1]), np.array([1])


def evaluate(persons, cameras, count_identities=False, scores=SCORES, query=QUERY, ranks=(1, 2, 3, 5)):
    return evaluate_ranking(scores, query, (np.array(persons), np.array(cameras)), ranks, count_identities)


def test_matches_at_places_3_and_6():
    found = evaluate([2, 2, 1, 3, 4, 1], [2] * 6)
    # Precision is 1/3 at the first match and 2/6 at the second; the last of two matches is at place 6.
    assert found['mAP'] == pytest.approx(100 * (1 / 3 + 2 / 6) / 2)
    assert found['mINP'] == pytest.approx(100 * 2 / 6)
    assert [found[f'rank{r}'] for r in (1, 2, 3, 5)] == [0, 0, 100, 100]


def test_an_identity_has_one_place_where_identities_count():
    found = evaluate([2, 2, 1, 3, 4, 1], [2] * 6, count_identities=True)
    assert [found[f'rank{r}'] for r in (1, 2, 3, 5)] == [0, 100, 100, 100]
    # The others stay as they are.
    assert (found['mAP'], found['mINP']) == pytest.approx((100 / 3, 100 / 3))


def test_the_same_person_in_the_same_camera_is_left_out():
    # The first two are of the query's identity and camera, the third of its camera alone.
    found = evaluate([1, 1, 2, 1, 2, 3], [1, 1, 1, 2, 1, 2])
    assert found == pytest.approx(dict(rank1=0, rank2=100, rank3=100, rank5=100, mAP=50, mINP=50))


def test_means_over_queries_leave_out_those_without_a_match():
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    query = np.array([1, 1, 9]), np.array([1, 1, 1])
    found = evaluate([1, 2, 2], [2, 2, 2], scores=scores, query=query, ranks=(1,))
    # Places 1 and 3.
    assert found == pytest.approx(dict(rank1=50, mAP=100 * (1 + 1 / 3) / 2, mINP=100 * (1 + 1 / 3) / 2))


def test_equal_scores_keep_the_order_of_the_gallery():
    found = evaluate([2, 1], [2, 2], scores=np.ones((1, 2)), ranks=(1, 2, 20))
    assert (found['rank1'], found['rank2'], found['rank20']) == (0, 100, 100)


def test_no_match_at_all_is_one_sentence():
    with pytest.raises(UserError, match='no query has an image of its identity from another camera in the gallery'):
        evaluate([1, 2, 3, 3, 3, 3], [1, 2, 2, 2, 2, 2])


@pytest.mark.parametrize('count_identities', [False, True])
def test_many_rankings_against_the_definitions(count_identities):
    """Counted place by place."""
    rng = np.random.default_rng(1)
    scores = rng.random((30, 40))
    query, gallery = ((rng.integers(5, size=n), rng.integers(3, size=n)) for n in (30, 40))
    found = evaluate_ranking(scores, query, gallery, (1, 3), count_identities)
    hits, precisions, penalties = [], [], []
    for row, person, camera in zip(scores, *query):
        ranked = sorted(zip(-row, *gallery))
        ranked = [p for _, p, c in ranked if (p, c) != (person, camera)]
        places = [place for place, p in enumerate(ranked, 1) if p == person]
        listed = list(dict.fromkeys(ranked)) if count_identities else ranked
        hits.append(listed.index(person))
        precisions.append(sum(n / place for n, place in enumerate(places, 1)) / len(places))
        penalties.append(len(places) / places[-1])
    for r in (1, 3):
        assert found[f'rank{r}'] == pytest.approx(100 * sum(hit < r for hit in hits) / 30)
    assert found['mAP'] == pytest.approx(100 * sum(precisions) / 30)
    assert found['mINP'] == pytest.approx(100 * sum(penalties) / 30)
