"""docs/settings.md has every setting of the kernel and of the built-in plugins. To renew: make docs"""

from support.docs import DOCS, blocks_of, has_blocks, table
from torghut_core.installation.known_settings import PREFIXES, REFUSED, UNUSED, all_settings
from torghut_core.plugin_host import PluginHost

PAGE = DOCS / "settings.md"


def made():
    """What the blocks of the page have to be."""
    settings = all_settings(PluginHost.load())
    return {
        "prefixes": f"{', '.join(f'`{prefix}`' for prefix in PREFIXES)}.\n",
        "settings": table(
            ("setting", "default", "means", "read by"),
            *(
                (
                    f"`{each.name}`",
                    "none" if each.default is None else f"`{each.default}`",
                    f"{each.meaning}{' (secret)' if each.is_secret else ''}",
                    each.owner,
                )
                for each in settings
            ),
        ),
        "refused": table(
            ("name", "why", "passes"),
            *(
                (f"`{name}`", reason, ", ".join(f"`{value}`" for value in harmless))
                for name, (reason, harmless) in sorted(REFUSED.items())
            ),
        ),
        "unused": f"{', '.join(f'`{name}`' for name in sorted(UNUSED))}\n",
    }


def test_the_page_has_every_setting():
    has_blocks(PAGE, made())
    assert set(blocks_of(PAGE)) == set(made())


def test_every_setting_has_a_meaning():
    assert [each.name for each in all_settings(PluginHost.load()) if not each.meaning] == []
