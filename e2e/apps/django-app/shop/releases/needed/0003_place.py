from django.db import migrations, models


class Migration(migrations.Migration):
    """Django drops the default again, so what older releases write is refused."""

    dependencies = [("shop", "0002_note")]
    operations = [migrations.AddField("Order", "place", models.TextField(default=""), preserve_default=False)]
