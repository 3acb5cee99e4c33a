from django.db import migrations


def fill(apps, schema_editor):
    apps.get_model("shop", "Order").objects.filter(note=None).update(note="")


class Migration(migrations.Migration):
    dependencies = [("shop", "0002_note")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
