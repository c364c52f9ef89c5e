"""The Dirac-GAN's page; that it moves as it should is tested in a browser (tests/ui)."""

from ganlib import viz


def test_its_page_is_whole_and_says_what_it_is_where_no_script_runs():
    page = viz.dirac()._repr_html_()
    assert page.count("<canvas") == page.count("</canvas>") == 1 and 'aria-label="Arrows show' in page
    assert "{{" not in page and "{line}" not in page
    for choice in ("non-saturating", "minimax", "relativistic pairs", "Wasserstein", "hinge", "R1 + R2", "clipping"):
        assert choice in page
    assert "Dirac-GAN" in repr(viz.dirac())
