"""The files of a new home explain every setting, and the settings reach what they govern."""

import re
from dataclasses import fields

import pytest

from data_contracts.environment import Home, Workspace, load_workspace
from data_contracts.errors import UsageError
from models import warehouse
from pipelines.workspace_files import make_home


def test_a_new_workspace_file_names_every_setting_with_its_default(tmp_path):
    home = Home(tmp_path)
    make_home(home)
    text = home.workspace_file.read_text(encoding="utf-8")
    named = re.findall(r"^(?:# )?([a-z_]+):", text, re.M)
    assert sorted(named) == sorted(f.name for f in fields(Workspace)), "every setting stands once in the template of workspace.yml"
    uncommented = re.sub(r"^# (?=[a-z_]+:)", "", text, flags=re.M)
    home.workspace_file.write_text(uncommented, encoding="utf-8")
    assert load_workspace(home.workspace_file) == Workspace(), "the defaults shown are the defaults used"


def test_the_memory_setting_is_what_the_database_may_take(tmp_path):
    home = Home(tmp_path)
    make_home(home)
    home.workspace_file.write_text("memory_gib: 0.75\n", encoding="utf-8")
    with warehouse.writing(home) as con:
        assert con.execute("SELECT current_setting('memory_limit')").fetchone() == ("768.0 MiB",)
        assert con.execute("SELECT current_setting('temp_directory')").fetchone() == (str(home.temporary),)
    home.workspace_file.write_text("memory_gib: plenty\n", encoding="utf-8")
    with pytest.raises(UsageError, match="memory_gib"):
        load_workspace(home.workspace_file)
