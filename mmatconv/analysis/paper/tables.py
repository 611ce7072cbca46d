"""All tables, by number."""

from functools import partial

from mmatconv.analysis.paper import memory, sit
from mmatconv.analysis.paper.ablation_tables import TABLE_IX_A, TABLE_IX_B, TABLE_IX_C
from mmatconv.analysis.paper.classification_tables import TABLE_I, TABLE_II, TABLE_III
from mmatconv.analysis.paper.dense_tables import TABLE_IV, TABLE_V, TABLE_VI
from mmatconv.analysis.paper.figures import Row, Table
from mmatconv.analysis.paper.retrieval_tables import TABLE_VII

SLIP = 'the mean of the rows above and below is 445.26; probably a slip'


def _sit(model: str, params: str, arch: str, mixer: str, /, **reasons: str) -> Row:
    return Row(model, dict(params=params), partial(sit.figures, arch, mixer), reasons)


TABLE_VIII = Table(
    'VIII',
    'SiT; the paper has no FLOPs, these are multiply-adds at 512 x 512',
    (
        _sit('SiT-B/2', '130.32', 'B/2', 'attention'),
        _sit('SiT-Hybrid-B/2', '126.78', 'B/2', 'hybrid'),
        _sit('SiT-ATConv-B/2', '123.24', 'B/2', 'atconv'),
        _sit('SiT-L/2', '457.84', 'L/2', 'attention'),
        _sit('SiT-Hybrid-L/2', '445.21', 'L/2', 'hybrid', params=SLIP),
        _sit('SiT-ATConv-L/2', '432.68', 'L/2', 'atconv'),
        _sit('SiT-XL/2', '674.83', 'XL/2', 'attention'),
        _sit('SiT-Hybrid-XL/2', '656.26', 'XL/2', 'hybrid'),
        _sit('SiT-ATConv-XL/2', '637.68', 'XL/2', 'atconv'),
    ),
)

SECTION_III_D = Table(
    'III-D',
    'equation 15 of section III-D by formula: activations of a layer, 32 samples, 384 channels, K = 3, 16 bits',
    (
        Row('self-attention, 28 x 28', dict(memory='92.6'), partial(memory.count, 'attention', 28)),
        Row('ATConv, 28 x 28', dict(memory='18.6'), partial(memory.count, 'atconv', 28)),
        Row('saved, 28 x 28', dict(saved='79.9'), partial(memory.count, 'saved', 28)),
        Row(
            'saved, 56 x 56',
            dict(saved='95'),
            partial(memory.count, 'saved', 56),
            dict(saved="equation 15's own terms give less: 820.8 and 73.7 MiB"),
        ),
    ),
)

TABLES = (
    TABLE_I,
    TABLE_II,
    TABLE_III,
    TABLE_IV,
    TABLE_V,
    TABLE_VI,
    TABLE_VII,
    TABLE_VIII,
    TABLE_IX_A,
    TABLE_IX_B,
    TABLE_IX_C,
    SECTION_III_D,
)
